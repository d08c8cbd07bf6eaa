//! `(( static_ips INDEX … ))`: addresses for the instances of a job, from the static ranges of
//! its network; no address twice in a document.

use std::collections::HashSet;
use std::net::Ipv4Addr;

use crate::eval::{Fault, Machine};
use crate::expr::{Call, Reference, Segment};
use crate::tree::{Node, Step, Value, shown};

/// Addresses of one network at most.
const POOL_MAX: usize = 65_536;

/// The zone of a subnet that names none.
const DEFAULT_ZONE: &str = "z1";

pub(super) fn run(machine: &mut Machine<'_>, call: &Call) -> Result<Node, Fault> {
    let here = machine.here().to_vec();
    let job = job(&here).ok_or("not currently inside of a job definition block")?;
    let name = shown(&value(machine, &job, "name")?);
    let instances = instances(&value(machine, &job, "instances")?)?;
    if instances == 0 {
        return Ok(Node::list(Vec::new()));
    }
    if call.args.len() < instances {
        return Err(Fault::Failed(format!(
            "not enough static IPs requested for job of {instances} instances (only asked for {})",
            call.args.len()
        )));
    }
    let mut zones = zones(machine, &job)?;
    let network = shown(&value(machine, &here[..here.len() - 1], "name")?);
    let pools = pools(machine, &network)?;
    for zone in &zones {
        if !pools.iter().any(|(known, _)| known == zone) {
            let listed = zones.join(" ");
            return Err(Fault::Failed(format!(
                "could not find AZ {zone} in network AZS [{listed}]"
            )));
        }
    }
    if zones.is_empty() {
        for (zone, _) in &pools {
            if !zones.contains(zone) {
                zones.push(zone.clone());
            }
        }
    }
    let mut found = Vec::new();
    for (number, arg) in call.args.iter().take(instances).enumerate() {
        let item = machine.eval(arg)?;
        let address = pick(&item.node, &zones, &pools)?;
        let owner = format!("{name}/{number}");
        if let Some(thief) = machine.claimed.get(&address) {
            return Err(Fault::Failed(format!(
                "tried to use IP '{address}', but that address is already allocated to {thief}"
            )));
        }
        machine.claimed.insert(address.clone(), owner);
        found.push(Node::text(address));
    }
    Ok(Node::list(found))
}

/// The path of the job around `here`.
fn job(here: &[Step]) -> Option<Vec<Step>> {
    let groups = |step: &Step| matches!(step, Step::Key(key) if matches!(&**key, "jobs" | "instance_groups"));
    let last = here.iter().rposition(groups)?;
    here.get(..=last + 1).filter(|path| path.len() < here.len()).map(<[Step]>::to_vec)
}

/// What `name` of the map at `path` is, evaluated.
fn value(machine: &mut Machine<'_>, path: &[Step], name: &str) -> Result<Node, Fault> {
    let mut segments: Vec<_> =
        path.iter().map(|step| Segment::Name(step.to_string().into())).collect();
    segments.push(Segment::Name(name.into()));
    let names: Vec<_> = path.iter().map(Step::to_string).chain([name.to_owned()]).collect();
    let reference =
        Reference { text: names.join(".").into(), rooted: true, segments: segments.into() };
    let path = machine.resolve(&reference)?;
    Ok(machine.node(&path).cloned().unwrap_or_default())
}

fn instances(node: &Node) -> Result<usize, Fault> {
    let number = match &node.value {
        Value::Int(n) => Some(*n),
        Value::Str(text) => text.parse().ok(),
        _ => None,
    };
    match number {
        None => Err("the `instances:` for the current job is not numeric".into()),
        Some(n) => usize::try_from(n).map_err(|_negative| {
            Fault::Failed("negative number found in `instances:` for the current job".to_owned())
        }),
    }
}

fn zones(machine: &mut Machine<'_>, job: &[Step]) -> Result<Vec<String>, Fault> {
    let node = match value(machine, job, "azs") {
        Ok(node) => node,
        Err(Fault::Failed(_)) => return Ok(Vec::new()),
        Err(fault) => return Err(fault),
    };
    let listed: Option<Vec<String>> = node
        .as_list()
        .and_then(|list| list.iter().map(|zone| zone.as_str().map(str::to_owned)).collect());
    listed.ok_or_else(|| Fault::Failed("azs must be a list of strings".to_owned()))
}

type Pools = Vec<(String, Vec<String>)>;

/// The static addresses of a network by zone, in the order of its subnets.
fn pools(machine: &mut Machine<'_>, network: &str) -> Result<Pools, Fault> {
    let path = [Step::Key("networks".into()), Step::Key(network.into())];
    let subnets = value(machine, &path, "subnets")?;
    let mut pools: Pools = Vec::new();
    for subnet in subnets.as_list().unwrap_or_default() {
        let entries = subnet.as_map();
        let mut addresses = Vec::new();
        let ranges = entries.and_then(|map| map.get("static")).and_then(Node::as_list);
        for range in ranges.unwrap_or_default() {
            let text = range.as_str().ok_or_else(|| {
                Fault::Failed(format!("{network} is not a well-formed BOSH network"))
            })?;
            expand(text, &mut addresses)?;
        }
        for zone in zones_of(subnet) {
            match pools.iter_mut().find(|(known, _)| known == zone) {
                Some((_, pool)) => pool.extend_from_slice(&addresses),
                None => pools.push((zone.to_owned(), addresses.clone())),
            }
        }
    }
    Ok(pools)
}

/// The zones that a subnet is in: its `az`, and those of `azs`.
fn zones_of(subnet: &Node) -> Vec<&str> {
    let field = |name| subnet.as_map().and_then(|map| map.get(name));
    let listed = field("azs").and_then(Node::as_list).unwrap_or_default();
    let named = field("az").into_iter().chain(listed).filter_map(Node::as_str);
    let zones: Vec<_> = named.filter(|zone| !zone.is_empty()).collect();
    if zones.is_empty() { vec![DEFAULT_ZONE] } else { zones }
}

fn expand(range: &str, addresses: &mut Vec<String>) -> Result<(), Fault> {
    let parse = |text: &str| {
        let text = text.trim();
        text.parse::<Ipv4Addr>()
            .map_err(|_not_one| Fault::Failed(format!("{text}: not a valid IP address")))
    };
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let (first, last) = (parse(first)?, parse(last)?);
    if first > last {
        return Err(Fault::Failed(format!(
            "Static IP pool [{first} - {last}] ends before it starts"
        )));
    }
    for address in u32::from(first)..=u32::from(last) {
        if addresses.len() >= POOL_MAX {
            return Err(Fault::Failed(format!("a pool of more than {POOL_MAX} static addresses")));
        }
        addresses.push(Ipv4Addr::from(address).to_string());
    }
    Ok(())
}

fn pick(arg: &Node, zones: &[String], pools: &Pools) -> Result<String, Fault> {
    let format = || {
        Fault::Failed(
            "static_ips operator arguments must have format <az>:<number> or <number>".to_owned(),
        )
    };
    let (zone, number) = match &arg.value {
        Value::Int(n) => (None, *n),
        Value::Str(text) => match text.split_once(':') {
            Some((zone, number)) => (Some(zone), number.parse().ok().ok_or_else(format)?),
            None => (None, text.parse().ok().ok_or_else(format)?),
        },
        _ => return Err(format()),
    };
    if let Some(zone) = zone.filter(|zone| !zones.iter().any(|known| known == zone)) {
        let listed = zones.join(" ");
        return Err(Fault::Failed(format!(
            "could not find AZ {zone} in instance_groups AZS [{listed}]"
        )));
    }
    // A subnet in several zones has its addresses in each of their pools.
    let mut seen = HashSet::new();
    let pool: Vec<&String> = zones
        .iter()
        .filter(|known| zone.is_none_or(|zone| zone == known.as_str()))
        .filter_map(|zone| pools.iter().find(|(known, _)| known == zone))
        .flat_map(|(_, pool)| pool)
        .filter(|address| seen.insert(address.as_str()))
        .collect();
    let index = usize::try_from(number).map_err(|_negative| {
        Fault::Failed(
            "static_ips operator only accepts literal non-negative numbers for arguments"
                .to_owned(),
        )
    })?;
    pool.get(index).map(|address| (*address).clone()).ok_or_else(|| {
        Fault::Failed(format!(
            "request for static_ip({index}) in a pool of only {} (zero-indexed) static addresses",
            pool.len()
        ))
    })
}
