//! What a Job may say and what of it may change (pkg/apis/batch/validation/validation.go, in its order).

use super::{NAME_LABELS, UID_LABELS};
use crate::value::{Access, Object, dig, put_or_remove, same};
use crate::{CauseReason, Errors, Path, names, pod, selector};
use serde_json::Value;

/// Past it status would not hold what is to be tracked.
const PARALLELISM_MAX_INDEXED: i64 = 100_000;
const MANY_COMPLETIONS: i64 = 100_000;
const LIMIT_WITH_MANY_COMPLETIONS: i64 = 10_000;
const RULES_MAX: usize = 20;
const EXIT_CODES_MAX: usize = 255;
const ACTIONS: [&str; 4] = ["Count", "FailIndex", "FailJob", "Ignore"];

pub(in super::super) fn validate(job: &Value, errors: &mut Errors) {
    let (spec, path) = (job.at("spec"), Path::new("spec"));
    generated_selector(job, errors);
    validate_spec(spec, &path, errors);
    if spec.at("selector").is_null() {
        errors.required(path.at("selector"), "");
    } else {
        selector::validate(spec.at("selector"), &path.at("selector"), errors);
        if !selector::matches(spec.at("selector"), spec.object("template.metadata.labels")) {
            errors.invalid(path.at("template.metadata.labels"), spec.at("template.metadata.labels"), "`selector` does not match template `labels`");
        }
    }
    let completions = spec.int("completions").unwrap_or(0);
    if spec.text("completionMode") == "Indexed" && completions > 0 {
        let longest = format!("{}-{}", job.text("metadata.name"), completions - 1);
        if names::dns_label(&longest).is_err() {
            errors.invalid_text("metadata.name", job.text("metadata.name"), &format!("will not able to create pod with invalid DNS label: {longest}"));
        }
    }
}

/// The labels that are put on the pods of a job that asks for no selector of its own must say what they are to say.
fn generated_selector(job: &Value, errors: &mut Errors) {
    if job.flag("spec.manualSelector") || job.at("spec.selector").is_null() {
        return;
    }
    let (name, uid) = (job.text("metadata.name"), job.text("metadata.uid"));
    let labels = job.object("spec.template.metadata.labels");
    for (key, value) in [(UID_LABELS[0], uid), (NAME_LABELS[0], name), (UID_LABELS[1], uid), (NAME_LABELS[1], name)] {
        has_label(labels, key, value, errors);
    }
    let pairs = UID_LABELS.map(|key| (key.to_owned(), uid.into())).into_iter().chain(NAME_LABELS.map(|key| (key.to_owned(), name.into())));
    let expected: Object = pairs.collect();
    if !selector::matches(job.at("spec.selector"), &expected) {
        errors.invalid("spec.selector", job.at("spec.selector"), "`selector` not auto-generated");
    }
}

fn has_label(labels: &Object, key: &str, expected: &str, errors: &mut Errors) {
    let (path, field) = (Path::new("spec.template.metadata"), "labels");
    match labels.get(key).and_then(Value::as_str) {
        None => errors.required(path.at(field).key(key), &format!("must be '{expected}'")),
        Some(actual) if actual != expected => errors.invalid(path.at(field).key(key), &Value::Object(labels.clone()), &format!("must be '{expected}'")),
        Some(_) => {}
    }
}

/// A JobSpec, of a Job or inside a CronJob.
pub(in super::super) fn validate_spec(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    for field in ["parallelism", "completions", "activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished", "backoffLimitPerIndex", "maxFailedIndexes"] {
        errors.non_negative(path.at(field), spec.int(field));
    }
    if spec.has("maxFailedIndexes") && !spec.has("backoffLimitPerIndex") {
        errors.required(path.at("backoffLimitPerIndex"), "when maxFailedIndexes is specified");
    }
    if spec.has("managedBy") && !spec.text("managedBy").contains('/') {
        errors.invalid(path.at("managedBy"), spec.at("managedBy"), "must be a domain-prefixed path (such as \"acme.io/foo\")");
    }
    match spec.text("completionMode") {
        "Indexed" => indexed(spec, path, errors),
        mode => {
            errors.one_of(path.at("completionMode"), mode, &["NonIndexed", "Indexed"]);
            for field in ["backoffLimitPerIndex", "maxFailedIndexes"].into_iter().filter(|field| spec.has(field)) {
                errors.invalid(path.at(field), spec.at(field), "requires indexed completion mode");
            }
        }
    }
    failure_policy(spec, &path.at("podFailurePolicy"), errors);
    success_policy(spec, &path.at("successPolicy"), errors);
    let replacements: &[&str] = if spec.has("podFailurePolicy") { &["Failed"] } else { &["Failed", "TerminatingOrFailed"] };
    errors.one_of(path.at("podReplacementPolicy"), spec.text("podReplacementPolicy"), replacements);
    pod::validate::template(spec.at("template"), &[], &path.at("template"), errors);
    let restart = path.at("template.spec.restartPolicy");
    match spec.text("template.spec.restartPolicy") {
        "Always" | "" => errors.required(restart, "valid values: \"OnFailure\", \"Never\""),
        "OnFailure" if spec.has("podFailurePolicy") => errors.invalid_text(restart, "OnFailure", "only \"Never\" is supported when podFailurePolicy is specified"),
        "OnFailure" | "Never" => {}
        other => errors.not_supported(restart, &other.into(), &["OnFailure", "Never"]),
    }
}

fn indexed(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let (completions, parallelism, failures) = (spec.int("completions"), spec.int("parallelism").unwrap_or(0), spec.int("maxFailedIndexes"));
    if completions.is_none() {
        errors.required(path.at("completions"), "when completion mode is Indexed");
    }
    if parallelism > PARALLELISM_MAX_INDEXED {
        let detail = format!("must be less than or equal to {PARALLELISM_MAX_INDEXED} when completion mode is Indexed");
        errors.invalid(path.at("parallelism"), &parallelism.into(), &detail);
    }
    let completions = completions.unwrap_or(0);
    if let Some(failures) = failures.filter(|failures| *failures > completions) {
        errors.invalid(path.at("maxFailedIndexes"), &failures.into(), "must be less than or equal to completions");
    }
    if let Some(failures) = failures.filter(|failures| *failures > PARALLELISM_MAX_INDEXED) {
        errors.invalid(path.at("maxFailedIndexes"), &failures.into(), &format!("must be less than or equal to {PARALLELISM_MAX_INDEXED}"));
    }
    if completions > MANY_COMPLETIONS && spec.has("backoffLimitPerIndex") {
        if failures.is_none() {
            errors.required(path.at("maxFailedIndexes"), &format!("must be specified when completions is above {MANY_COMPLETIONS}"));
        }
        for (field, value) in [("parallelism", Some(parallelism)), ("maxFailedIndexes", failures)] {
            if let Some(value) = value.filter(|value| *value > LIMIT_WITH_MANY_COMPLETIONS) {
                let detail = format!("must be less than or equal to {LIMIT_WITH_MANY_COMPLETIONS} when completions are above {MANY_COMPLETIONS} and used with backoff limit per index");
                errors.invalid(path.at(field), &value.into(), &detail);
            }
        }
    }
}

fn failure_policy(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let (rules, list) = (spec.list("podFailurePolicy.rules"), path.at("rules"));
    if rules.len() > RULES_MAX {
        errors.too_many(&list, rules.len(), RULES_MAX);
    }
    for (i, rule) in rules.iter().enumerate() {
        failure_rule(spec, rule, &list.index(i), errors);
    }
}

fn failure_rule(spec: &Value, rule: &Value, path: &Path<'_>, errors: &mut Errors) {
    let whole = |errors: &mut Errors, detail: &str| errors.push(CauseReason::Invalid, path, format!("Invalid value: {detail}"));
    match rule.text("action") {
        "" => errors.required(path.at("action"), "valid values: [\"Count\" \"FailIndex\" \"FailJob\" \"Ignore\"]"),
        "FailIndex" if !spec.has("backoffLimitPerIndex") => errors.invalid_text(path.at("action"), "FailIndex", "requires the backoffLimitPerIndex to be set"),
        action => errors.one_of(path.at("action"), action, &ACTIONS),
    }
    let patterns = rule.list("onPodConditions");
    if rule.has("onExitCodes") {
        exit_codes(spec, rule.at("onExitCodes"), &path.at("onExitCodes"), errors);
    }
    let list = path.at("onPodConditions");
    if patterns.len() > RULES_MAX {
        errors.too_many(&list, patterns.len(), RULES_MAX);
    }
    for (i, pattern) in patterns.iter().enumerate() {
        let at = list.index(i);
        errors.rules(&at.at("type"), pattern.text("type"), names::qualified_name);
        errors.one_of(at.at("status"), pattern.text("status"), &["False", "True", "Unknown"]);
    }
    match (rule.has("onExitCodes"), patterns.is_empty()) {
        (true, false) => whole(errors, "specifying both OnExitCodes and OnPodConditions is not supported"),
        (false, true) => whole(errors, "specifying one of OnExitCodes and OnPodConditions is required"),
        _ => {}
    }
}

fn exit_codes(spec: &Value, codes: &Value, path: &Path<'_>, errors: &mut Errors) {
    match codes.text("operator") {
        "" => errors.required(path.at("operator"), "valid values: [\"In\" \"NotIn\"]"),
        operator => errors.one_of(path.at("operator"), operator, &["In", "NotIn"]),
    }
    let known = |name: &str| ["containers", "initContainers"].iter().any(|list| spec.at("template.spec").list(list).iter().any(|c| c.text("name") == name));
    if codes.has("containerName") && !known(codes.text("containerName")) {
        errors.invalid(path.at("containerName"), codes.at("containerName"), "must be one of the container or initContainer names in the pod template");
    }
    let (values, list) = (codes.list("values"), path.at("values"));
    match values.len() {
        0 => errors.invalid(&list, codes.at("values"), "at least one value is required"),
        count if count > EXIT_CODES_MAX => errors.too_many(&list, count, EXIT_CODES_MAX),
        _ => {}
    }
    for (i, value) in values.iter().enumerate() {
        if codes.text("operator") == "In" && value.as_i64() == Some(0) {
            errors.invalid(list.index(i), value, "must not be 0 for the In operator");
        }
        if values[..i].contains(value) {
            errors.duplicate(list.index(i), value);
        }
    }
    if !values.is_sorted_by_key(Value::as_i64) {
        errors.invalid(&list, codes.at("values"), "must be ordered");
    }
}

fn success_policy(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    if !spec.has("successPolicy") {
        return;
    }
    if spec.text("completionMode") != "Indexed" {
        return errors.invalid(path, spec.at("successPolicy"), "requires indexed completion mode");
    }
    let (rules, list) = (spec.list("successPolicy.rules"), path.at("rules"));
    if rules.is_empty() {
        errors.required(&list, "at least one rules must be specified when the successPolicy is specified");
    }
    if rules.len() > RULES_MAX {
        errors.too_many(&list, rules.len(), RULES_MAX);
    }
    let completions = spec.int("completions").unwrap_or(0);
    for (i, rule) in rules.iter().enumerate() {
        let at = list.index(i);
        let (count, indexes) = (rule.int("succeededCount"), rule.has("succeededIndexes").then(|| rule.text("succeededIndexes")));
        if count.is_none() && indexes.is_none() {
            errors.required(at, "at least one of succeededCount or succeededIndexes must be specified");
        }
        let total = indexes.map(|text| match total_of(text, completions) {
            Ok(total) => total,
            Err(why) => {
                errors.invalid_text(at.at("succeededIndexes"), text, &format!("error parsing succeededIndexes: {why}"));
                0
            }
        });
        let Some(count) = count else { continue };
        errors.non_negative(at.at("succeededCount"), Some(count));
        if count > completions {
            let detail = format!("must be less than or equal to {completions} (the number of specified completions)");
            errors.invalid(at.at("succeededCount"), &count.into(), &detail);
        }
        if let Some(total) = total.filter(|total| count > *total) {
            let detail = format!("must be less than or equal to {total} (the number of indexes in the specified succeededIndexes field)");
            errors.invalid(at.at("succeededCount"), &count.into(), &detail);
        }
    }
}

/// How many indexes `0,2-4` are.
fn total_of(text: &str, completions: i64) -> Result<i64, String> {
    let (mut total, mut last) = (0, -1);
    for part in text.split(',').filter(|_| !text.is_empty()) {
        let number = |digits: &str| digits.parse::<i64>().map_err(|_| format!("cannot convert string to integer for index: {digits:?}"));
        let (first, end) = match part.split_once('-') {
            Some((first, end)) => (number(first)?, number(end)?),
            None => (number(part)?, number(part)?),
        };
        if end >= completions || first >= completions {
            return Err(format!("too large index: {part:?}"));
        }
        if first <= last || end < first || (part.contains('-') && end == first) {
            return Err(format!("non-increasing order, previous: {last}, current: {part}"));
        }
        total += end - first + 1;
        last = end;
    }
    Ok(total)
}

pub(in super::super) fn validate_update(new: &Value, old: &Value, errors: &mut Errors) {
    let (path, spec, was) = (Path::new("spec"), new.at("spec"), old.at("spec"));
    let keep = |field: &str, errors: &mut Errors| {
        if !same(spec.at(field), was.at(field)) {
            errors.invalid(path.at(field), spec.at(field), "field is immutable");
        }
    };
    if !same(spec.at("completions"), was.at("completions")) {
        completions_changed(spec, was, &path.at("completions"), errors);
    }
    keep("selector", errors);
    let mut template = was.at("template").clone();
    if old.flag("spec.suspend") && !old.has("status.startTime") {
        scheduling_may_change(&mut template, spec.at("template"));
    }
    if !same(spec.at("template"), &template) {
        errors.invalid(path.at("template"), spec.at("template"), "field is immutable");
    }
    for field in ["completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"] {
        keep(field, errors);
    }
}

/// Only an Indexed job grows and shrinks, and parallelism with it.
fn completions_changed(spec: &Value, was: &Value, path: &Path<'_>, errors: &mut Errors) {
    let elastic = spec.text("completionMode") == "Indexed" && spec.has("completions") && was.has("completions");
    if !elastic {
        errors.invalid(path, spec.at("completions"), "field is immutable");
    } else if spec.at("completions") != spec.at("parallelism") {
        errors.invalid(path, spec.at("completions"), &format!("can only be modified in tandem with {}", "spec.parallelism"));
    }
}

/// Where a pod may run can be said until the job first starts.
fn scheduling_may_change(template: &mut Value, new: &Value) {
    for (parent, field) in [("spec", "nodeSelector"), ("spec", "tolerations"), ("spec", "schedulingGates"), ("metadata", "annotations"), ("metadata", "labels")] {
        put_or_remove(dig(template, parent), field, Some(new.at(parent).at(field).clone()));
    }
    let node = new.at("spec.affinity.nodeAffinity").clone();
    if node.is_null() && !template.has("spec.affinity") {
        return;
    }
    put_or_remove(dig(template, "spec.affinity"), "nodeAffinity", Some(node));
}
