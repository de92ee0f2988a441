//! The host's other tenants: a packet that one table accepts is still dropped by another's drop, so theirs must accept ours.
//!
//! Docker keeps a chain for others, `DOCKER-USER`: our interfaces are accepted there. ufw, firewalld and an administrator's own rules are
//! theirs to change: what to run is said.

use crate::netfilter::{INET, IPV4, Netfilter, as_number, as_text, attribute};
use crate::record::{self, HostRecord, Paths};
use crate::{Error, Ranges, link};
use std::process::Command;

/// A firewall's chain that lets nothing pass which it does not know.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Gate {
    family: &'static str,
    table: String,
    chain: String,
    /// A rule in this table names our interfaces or range: someone has let us in.
    knows_us: bool,
}

/// Who else filters here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Survey {
    /// `DOCKER-USER` is there.
    docker: bool,
    ufw: bool,
    firewalld: bool,
    gates: Vec<Gate>,
}

/// Makes room where that is ours to do, and says what is not.
pub(crate) fn fit(paths: &Paths, instance: &str, ranges: &Ranges) -> Vec<String> {
    let survey = match survey(instance, ranges) {
        Ok(survey) => survey,
        Err(error) => return vec![format!("the host's firewall could not be read: {error}")],
    };
    let mut words = Vec::new();
    if survey.docker
        && let Err(error) = enter_docker(paths, instance)
    {
        words.push(docker_words(instance, &error));
    }
    words.extend(say(&survey, instance, ranges));
    words
}

/// Takes our rules out of `DOCKER-USER` again.
pub(crate) fn remove_docker_rules(instance: &str) {
    for rule in docker_rules(instance) {
        // As often as it is there; the chain itself may have gone with Docker.
        while iptables("-D", &rule).is_ok() {}
    }
}

/// `LOCAL_IN` and `FORWARD`: the hooks that pods' packets pass.
const HOOKS: [u32; 2] = [1, 2];
const POLICY_DROP: u32 = 0;

fn survey(instance: &str, ranges: &Ranges) -> Result<Survey, Error> {
    let mut netfilter = Netfilter::open()?;
    let mut survey = Survey::default();
    for found in netfilter.chains()? {
        let text = |kind| attribute(&found.attributes, kind).map(as_text).unwrap_or_default();
        let (table, chain) = (text(1), text(3));
        survey.docker |= table == "filter" && chain == "DOCKER-USER" && found.family == IPV4;
        survey.ufw |= chain == "ufw-user-forward";
        survey.firewalld |= table == "firewalld";
        let family = match found.family {
            IPV4 => "ip",
            INET => "inet",
            _ => continue,
        };
        let hook = attribute(&found.attributes, 4).and_then(|h| attribute(h, 1)).and_then(as_number);
        let policy = attribute(&found.attributes, 5).and_then(as_number);
        if hook.is_some_and(|h| HOOKS.contains(&h)) && policy == Some(POLICY_DROP) {
            let knows_us = netfilter.rules(found.family, &table)?.iter().any(|r| names_us(&r.attributes, instance, ranges));
            survey.gates.push(Gate { family, table, chain, knows_us });
        }
    }
    Ok(survey)
}

/// Whether a rule compares with our interfaces' prefix or our range's first bytes.
fn names_us(expressions: &[u8], instance: &str, ranges: &Ranges) -> bool {
    let prefix = link::prefix(instance);
    let octets = ranges.pods.0.octets();
    let range = &octets[..usize::from(ranges.pods.1 / 8).clamp(2, 4)];
    let has = |wanted: &[u8]| expressions.windows(wanted.len()).any(|w| w == wanted);
    has(prefix.as_bytes()) || has(range)
}

fn say(survey: &Survey, instance: &str, ranges: &Ranges) -> Vec<String> {
    let mut words = Vec::new();
    let range = format!("{}/{}", ranges.pods.0, ranges.pods.1);
    if survey.firewalld {
        words.push(format!(
            "firewalld filters this host: pods may not reach the host, each other or the outside. Run: \
             firewall-cmd --permanent --zone=trusted --add-source={range} && firewall-cmd --reload"
        ));
    }
    let shut: Vec<&Gate> = survey.gates.iter().filter(|g| !g.knows_us).collect();
    let iptables = |g: &&&Gate| g.table == "filter" && matches!(g.chain.as_str(), "INPUT" | "FORWARD");
    if survey.ufw && shut.iter().any(|g| iptables(&g)) {
        words.push(format!(
            "ufw filters this host: pods may not reach the host, each other or the outside. Run: \
             ufw allow from {range} && ufw route allow from {range} && ufw route allow to {range}"
        ));
    }
    for gate in &shut {
        let cared_for = iptables(&gate) && (survey.ufw || (survey.docker && gate.chain == "FORWARD"));
        if !cared_for {
            let Gate { family, table, chain, .. } = gate;
            let prefix = link::prefix(instance);
            let outward = if chain.eq_ignore_ascii_case("input") { "" } else { " and the same with oifname" };
            words.push(format!(
                "the nftables chain {chain} of table {family} {table} drops what it does not know, pods' packets too. \
                 Run: nft insert rule {family} {table} {chain} iifname \"{prefix}*\" accept{outward}"
            ));
        }
    }
    words
}

fn docker_words(instance: &str, error: &Error) -> String {
    let commands: Vec<String> = docker_rules(instance).iter().map(|r| format!("iptables -I {}", r.join(" "))).collect();
    format!("Docker drops what pods send ({error}). Run: {}", commands.join(" && "))
}

/// `+` is iptables' wildcard.
fn docker_rules(instance: &str) -> [Vec<String>; 2] {
    let interfaces = format!("{}+", link::prefix(instance));
    ["-i", "-o"].map(|side| ["DOCKER-USER", side, &interfaces, "-j", "ACCEPT"].map(str::to_owned).to_vec())
}

/// The record first, then what is missing.
fn enter_docker(paths: &Paths, instance: &str) -> Result<(), Error> {
    if let Some(host) = record::read::<HostRecord>(&paths.host())?
        && !host.docker_user
    {
        record::write(&paths.host(), &HostRecord { docker_user: true, ..host })?;
    }
    for rule in docker_rules(instance) {
        if iptables("-C", &rule).is_err() {
            iptables("-I", &rule)?;
        }
    }
    Ok(())
}

/// Docker itself uses this command; a native rule in its tables would be one that its own tools cannot list.
fn iptables(action: &str, rule: &[String]) -> Result<(), Error> {
    let doing = || format!("iptables {action} {}", rule.join(" "));
    let output = Command::new("iptables").args(["-w", "5", action]).args(rule).output().map_err(|e| Error::kernel(doing(), e))?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::kernel(doing(), String::from_utf8_lossy(&output.stderr).trim()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::net::Ipv4Addr;

    fn check(survey: Survey, expected: &[&str]) {
        let ranges = Ranges { pods: (Ipv4Addr::new(10, 42, 0, 0), 24), services: (Ipv4Addr::new(10, 43, 0, 0), 20) };
        let said = say(&survey, "a", &ranges);
        assert_eq!(said.len(), expected.len(), "{said:?}");
        for (said, expected) in said.iter().zip(expected) {
            assert!(said.contains(expected), "{said}");
        }
    }
    fn gate(chain: &str, knows_us: bool) -> Gate {
        Gate { family: "ip", table: "filter".into(), chain: chain.into(), knows_us }
    }

    #[test]
    fn a_host_without_a_firewall_needs_no_words() {
        check(Survey::default(), &[]);
    }

    #[test]
    fn docker_alone_is_met_in_its_own_chain() {
        check(Survey { docker: true, gates: vec![gate("FORWARD", false)], ..Survey::default() }, &[]);
    }

    #[test]
    fn ufw_and_firewalld_are_told_in_their_own_commands() {
        let gates = vec![gate("INPUT", false), gate("FORWARD", false)];
        check(Survey { ufw: true, gates, ..Survey::default() }, &["ufw route allow from 10.42.0.0/24"]);
        check(Survey { firewalld: true, ..Survey::default() }, &["--add-source=10.42.0.0/24"]);
    }

    #[test]
    fn once_let_in_nothing_more_is_said() {
        check(Survey { ufw: true, gates: vec![gate("INPUT", true), gate("FORWARD", true)], ..Survey::default() }, &[]);
    }

    #[test]
    fn an_administrators_own_chain_is_named() {
        let gates = vec![Gate { family: "inet", table: "mine".into(), chain: "forward".into(), knows_us: false }];
        check(Survey { gates, ..Survey::default() }, &["nft insert rule inet mine forward iifname \"msa-*\" accept and the same with oifname"]);
    }
}
