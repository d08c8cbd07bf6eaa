//! `(( ips CIDR|IP INDEX [COUNT] ))`: an address by its index, or several; a negative index
//! counts from the end of the network.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::eval::{Fault, Machine};
use crate::expr::Call;
use crate::tree::{Node, Value};

/// Addresses at most.
const COUNT_MAX: i128 = 65_536;

pub(super) fn run(machine: &mut Machine<'_>, call: &Call) -> Result<Node, Fault> {
    let items = machine.args(call)?;
    if !(2..=3).contains(&items.len()) {
        return Err(
            "ips requires at least two arguments: 1) An IP or a CIDR and 2) an index".into()
        );
    }
    let Some(text) = items[0].node.as_str() else {
        let what = super::label(&items[0]);
        return Err(Fault::Failed(format!("ips: {what} is not an IP or a CIDR")));
    };
    let network = network(text)?;
    let number = |index: usize| match items[index].node.value {
        Value::Int(n) => Ok(i128::from(n)),
        _ => Err(Fault::Failed(format!("ips: {} is not a number", super::label(&items[index])))),
    };
    let mut start = number(1)?;
    if let Some(size) = network.size {
        if start.abs() > size {
            return Err(Fault::Failed(format!(
                "start index {start} exceeds size of subnet {text}"
            )));
        }
        if start < 0 {
            start += size;
        }
    }
    if items.len() == 2 {
        return network.at(start).map(Node::text);
    }
    let count = number(2)?;
    if network.size.is_some_and(|size| start + count > size) || !(0..=COUNT_MAX).contains(&count) {
        return Err(Fault::Failed(format!(
            "start index {start} and count {count} would exceed size of subnet {text}"
        )));
    }
    let addresses: Result<Vec<_>, _> =
        (start..start + count).map(|index| network.at(index).map(Node::text)).collect();
    addresses.map(Node::list)
}

struct Network {
    base: u128,
    v4: bool,
    /// How many addresses it has, if it is one.
    size: Option<i128>,
}

fn network(text: &str) -> Result<Network, Fault> {
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text, None),
    };
    let invalid = || Fault::Failed(format!("{text}: not a valid IP address"));
    let address: IpAddr = address.parse().ok().ok_or_else(invalid)?;
    let (bits, value, v4) = match address {
        IpAddr::V4(v4) => (32, u128::from(u32::from(v4)), true),
        IpAddr::V6(v6) => (128, u128::from(v6), false),
    };
    let Some(prefix) = prefix else { return Ok(Network { base: value, v4, size: None }) };
    let prefix: u32 = prefix.parse().ok().filter(|p| *p <= bits).ok_or_else(invalid)?;
    let host = bits - prefix;
    // Networks of more than 2^126 addresses are as good as without an end.
    let size = 1_i128.checked_shl(host).filter(|size| *size > 0 && host < 127);
    let mask = u128::MAX.checked_shl(host).unwrap_or(0);
    Ok(Network { base: value & mask, v4, size })
}

impl Network {
    fn at(&self, index: i128) -> Result<String, Fault> {
        let outside = || Fault::Failed(format!("address index {index} is out of range"));
        let value = self.base.checked_add_signed(index).ok_or_else(outside)?;
        if self.v4 {
            let value = u32::try_from(value).ok().ok_or_else(outside)?;
            return Ok(Ipv4Addr::from(value).to_string());
        }
        Ok(Ipv6Addr::from(value).to_string())
    }
}
