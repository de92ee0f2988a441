//! Which nodes, and which neighbours, a pod wants or refuses.

use crate::view::{Place, View};
use k8s_openapi::api::core::v1::{Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodAffinityTerm};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use mainstay_client::selector::{Labels, has_labels, matches};

fn requirement(one: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = || one.values.iter().flatten();
    let compare = |holds: fn(i64, i64) -> bool| {
        let bound = values().next().and_then(|bound| bound.parse::<i64>().ok());
        value.and_then(|value| value.parse::<i64>().ok()).zip(bound).is_some_and(|(value, bound)| holds(value, bound))
    };
    match one.operator.as_str() {
        "In" => value.is_some_and(|value| values().any(|one| one == value)),
        "NotIn" => !value.is_some_and(|value| values().any(|one| one == value)),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compare(|value, bound| value > bound),
        "Lt" => compare(|value, bound| value < bound),
        _ => false,
    }
}

/// One term: all its expressions and fields. An empty term matches nothing.
pub(crate) fn term_matches(term: &NodeSelectorTerm, node: &Node) -> bool {
    let (expressions, fields) = (term.match_expressions.as_deref().unwrap_or_default(), term.match_fields.as_deref().unwrap_or_default());
    let label = |key: &str| node.metadata.labels.as_ref().and_then(|labels| labels.get(key)).map(String::as_str);
    let field = |key: &str| if key == "metadata.name" { node.metadata.name.as_deref() } else { None };
    !(expressions.is_empty() && fields.is_empty())
        && expressions.iter().all(|one| requirement(one, label(&one.key)))
        && fields.iter().all(|one| requirement(one, field(&one.key)))
}

/// Any of the terms.
pub(crate) fn selects(selector: &NodeSelector, node: &Node) -> bool {
    selector.node_selector_terms.iter().any(|term| term_matches(term, node))
}

/// `nodeSelector` and required node affinity.
pub(crate) fn node_matches(pod: &Pod, node: &Node) -> bool {
    let Some(spec) = &pod.spec else { return true };
    let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    spec.node_selector.as_ref().is_none_or(|wanted| has_labels(wanted, node.metadata.labels.as_ref()))
        && affinity.and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref()).is_none_or(|selector| selects(selector, node))
}

/// A selector narrowed (or, `negate`, kept clear) by the values that `pod` has for some label keys (`matchLabelKeys`).
pub(crate) fn with_keys(selector: &LabelSelector, keys: Option<&Vec<String>>, pod: &Pod, negate: bool) -> LabelSelector {
    let mut selector = selector.clone();
    for key in keys.into_iter().flatten() {
        if let Some(value) = pod.metadata.labels.as_ref().and_then(|labels| labels.get(key)) {
            let operator = if negate { "NotIn" } else { "In" };
            let one = LabelSelectorRequirement { key: key.clone(), operator: operator.to_owned(), values: Some(vec![value.clone()]) };
            selector.match_expressions.get_or_insert_default().push(one);
        }
    }
    selector
}

/// A term of `owner`, ready to be held against other pods.
pub(crate) struct Term<'a> {
    term: &'a PodAffinityTerm,
    selector: Option<LabelSelector>,
    own_namespace: &'a str,
}

impl<'a> Term<'a> {
    pub(crate) fn new(term: &'a PodAffinityTerm, owner: &'a Pod) -> Self {
        let selector = term.label_selector.as_ref().map(|selector| {
            let narrowed = with_keys(selector, term.match_label_keys.as_ref(), owner, false);
            with_keys(&narrowed, term.mismatch_label_keys.as_ref(), owner, true)
        });
        Self { term, selector, own_namespace: owner.metadata.namespace.as_deref().unwrap_or_default() }
    }

    pub(crate) fn key(&self) -> &str {
        &self.term.topology_key
    }

    /// Whether it means this pod. No selector means no pod; an empty one all.
    pub(crate) fn means(&self, pod: &Pod, view: &View) -> bool {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        self.selector.as_ref().is_some_and(|selector| matches(selector, pod.metadata.labels.as_ref())) && self.covers(namespace, view)
    }

    fn covers(&self, namespace: &str, view: &View) -> bool {
        let listed = self.term.namespaces.as_deref().unwrap_or_default();
        match &self.term.namespace_selector {
            None if listed.is_empty() => namespace == self.own_namespace,
            selector => listed.iter().any(|one| one == namespace) || selector.as_ref().is_some_and(|selector| self.selects(selector, namespace, view)),
        }
    }

    fn selects(&self, selector: &LabelSelector, namespace: &str, view: &View) -> bool {
        let labels: Option<Labels> = view.things.namespace_labels(namespace);
        matches(selector, labels.as_ref())
    }
}

fn affinity_of(pod: &Pod) -> Option<&k8s_openapi::api::core::v1::Affinity> {
    pod.spec.as_ref()?.affinity.as_ref()
}

/// Required pod affinity.
pub(crate) fn wanted(pod: &Pod) -> Vec<Term<'_>> {
    let terms = affinity_of(pod).and_then(|affinity| affinity.pod_affinity.as_ref()?.required_during_scheduling_ignored_during_execution.as_ref());
    terms.into_iter().flatten().map(|term| Term::new(term, pod)).collect()
}

/// Required pod anti-affinity.
pub(crate) fn refused(pod: &Pod) -> Vec<Term<'_>> {
    let terms = affinity_of(pod).and_then(|affinity| affinity.pod_anti_affinity.as_ref()?.required_during_scheduling_ignored_during_execution.as_ref());
    terms.into_iter().flatten().map(|term| Term::new(term, pod)).collect()
}

/// Preferred affinity (positive weight) and anti-affinity (negative).
pub(crate) fn preferred(pod: &Pod) -> Vec<(i64, Term<'_>)> {
    let affinity = affinity_of(pod);
    let near = affinity.and_then(|affinity| affinity.pod_affinity.as_ref()?.preferred_during_scheduling_ignored_during_execution.as_ref());
    let far = affinity.and_then(|affinity| affinity.pod_anti_affinity.as_ref()?.preferred_during_scheduling_ignored_during_execution.as_ref());
    let near = near.into_iter().flatten().map(|term| (i64::from(term.weight), &term.pod_affinity_term));
    let far = far.into_iter().flatten().map(|term| (-i64::from(term.weight), &term.pod_affinity_term));
    near.chain(far).map(|(weight, term)| (weight, Term::new(term, pod))).collect()
}

/// Whether some pod that `term` means runs where `place` is, as the term's topology key sees it.
fn has_neighbour(term: &Term<'_>, place: &Place, view: &View, also: &dyn Fn(&Pod) -> bool) -> bool {
    let Some(here) = place.label(term.key()) else { return false };
    let same = view.places.iter().filter(|other| other.label(term.key()) == Some(here));
    same.flat_map(|other| &other.pods).any(|other| also(other))
}

/// Why neighbours forbid a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Neighbours {
    /// The pod wants others near it that are not there.
    Missing,
    /// The pod refuses some that are there.
    Refused,
    /// Some that are there refuse the pod.
    Refusing,
}

/// Upstream: plugins/interpodaffinity/filtering.go.
pub(crate) fn neighbours(pod: &Pod, place: &Place, view: &View) -> Option<Neighbours> {
    let wanted = wanted(pod);
    let all_mean = |other: &Pod| wanted.iter().all(|term| term.means(other, view));
    let near = wanted.iter().all(|term| has_neighbour(term, place, view, &all_mean));
    if !near {
        // The first of a group that wants its own kind near it may start anywhere.
        let first = || !view.places.iter().flat_map(|place| &place.pods).any(|other| all_mean(other)) && all_mean(pod);
        if wanted.iter().any(|term| place.label(term.key()).is_none()) || !first() {
            return Some(Neighbours::Missing);
        }
    }
    if refused(pod).iter().any(|term| has_neighbour(term, place, view, &|other| term.means(other, view))) {
        return Some(Neighbours::Refused);
    }
    let refusing = view.places.iter().any(|other| {
        other.pods.iter().any(|neighbour| {
            let together = |term: &Term<'_>| place.label(term.key()).is_some() && place.label(term.key()) == other.label(term.key());
            refused(neighbour).iter().any(|term| together(term) && term.means(pod, view))
        })
    });
    refusing.then_some(Neighbours::Refusing)
}

/// How much the neighbours speak for a place: the weights of preferred terms, the pod's and theirs.
pub(crate) fn attraction(pod: &Pod, place: &Place, view: &View) -> i64 {
    let mine = preferred(pod);
    let mut sum = 0;
    for other in &view.places {
        for neighbour in &other.pods {
            let together = |term: &Term<'_>| place.label(term.key()).is_some() && place.label(term.key()) == other.label(term.key());
            sum += mine.iter().filter(|(_, term)| together(term) && term.means(neighbour, view)).map(|(weight, _)| weight).sum::<i64>();
            sum += preferred(neighbour).iter().filter(|(_, term)| together(term) && term.means(pod, view)).map(|(weight, _)| weight).sum::<i64>();
        }
    }
    sum
}
