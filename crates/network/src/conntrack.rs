//! Forgetting UDP flows to endpoints that are gone: conntrack would lead their packets there for as long as they come.

use crate::Error;
use crate::netfilter::{Attributes, Found, IPV4, Netfilter, attribute};
use std::net::Ipv4Addr;

/// Address sent to (any if `None`), port sent to, endpoint that answers.
pub(crate) type Flow = (Option<Ipv4Addr>, u16, Ipv4Addr);

const CONNTRACK: u16 = 1 << 8;
const GET: u16 = CONNTRACK | 1;
const DELETE: u16 = CONNTRACK | 2;
const UDP: u8 = 17;
const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;

/// Goes through the table once, whatever the number of flows; kernels before 6.12 cannot delete by a filter.
pub(crate) fn forget(netfilter: &mut Netfilter, flows: &[Flow]) -> Result<(), Error> {
    if flows.is_empty() {
        return Ok(());
    }
    for entry in netfilter.dump(GET, IPV4, &Attributes::default())? {
        if let Some(tuple) = original_if(&entry, flows) {
            let mut attributes = Attributes::default();
            attributes.bytes(ORIGINAL | 0x8000, tuple);
            netfilter.request(DELETE, IPV4, &attributes)?;
        }
    }
    Ok(())
}

/// The tuple that names the entry, if it is one of the flows.
fn original_if<'a>(entry: &'a Found, flows: &[Flow]) -> Option<&'a [u8]> {
    let tuple = attribute(&entry.attributes, ORIGINAL)?;
    let protocol = attribute(tuple, 2)?;
    if attribute(protocol, 1) != Some(&[UDP]) {
        return None;
    }
    let port = u16::from_be_bytes(attribute(protocol, 3)?.try_into().ok()?);
    let address = |tuple: &[u8], which: u16| -> Option<Ipv4Addr> {
        let bytes: [u8; 4] = attribute(attribute(tuple, 1)?, which)?.try_into().ok()?;
        Some(Ipv4Addr::from(bytes))
    };
    let sent_to = address(tuple, 2)?;
    let answers = address(attribute(&entry.attributes, REPLY)?, 1)?;
    let gone = |flow: &Flow| flow.0.is_none_or(|a| a == sent_to) && flow.1 == port && flow.2 == answers;
    flows.iter().any(gone).then_some(tuple)
}
