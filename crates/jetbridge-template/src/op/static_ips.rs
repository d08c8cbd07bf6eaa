//! `(( static_ips INDEX … ))`: addresses for the instances of a job, from the static ranges of
//! its network; no address twice in a document.

use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use indexmap::IndexMap;

use crate::eval::{Fault, Machine};
use crate::expr::{Call, Reference, Segment};
use crate::tree::{Node, Step, Value, shown};

/// Static addresses of one network at most, over all its subnets.
const POOL_MAX: usize = 65_536;

/// Networks and pools that are kept at most: a short range stands for many addresses.
const KEPT_MAX: usize = 64;

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
    let called = shown(&value(machine, &here[..here.len() - 1], "name")?);
    let (path, network) = network(machine, &called)?;
    for zone in &zones {
        if !network.zones.contains_key(zone) {
            let listed = zones.join(" ");
            return Err(Fault::Failed(format!(
                "could not find AZ {zone} in network AZS [{listed}]"
            )));
        }
    }
    if zones.is_empty() {
        zones.extend(network.zones.keys().cloned());
    }
    let mut found = Vec::new();
    for (number, arg) in call.args.iter().take(instances).enumerate() {
        let item = machine.eval(arg)?;
        let (zone, index) = wanted(&item.node)?;
        let zones = chosen(zone, &zones)?;
        let pool = machine.addresses.pool(&path, zones, &network);
        let address = at(&pool, index)?.to_string();
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
    let path = locate(machine, path, name)?;
    Ok(machine.node(&path).cloned().unwrap_or_default())
}

/// Where `name` of the map at `path` is, evaluated.
fn locate(machine: &mut Machine<'_>, path: &[Step], name: &str) -> Result<Vec<Step>, Fault> {
    let mut segments: Vec<_> =
        path.iter().map(|step| Segment::Name(step.to_string().into())).collect();
    segments.push(Segment::Name(name.into()));
    let names: Vec<_> = path.iter().map(Step::to_string).chain([name.to_owned()]).collect();
    let reference =
        Reference { text: names.join(".").into(), rooted: true, segments: segments.into() };
    machine.resolve(&reference)
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

type PoolKey = (Vec<Step>, Vec<String>);

/// What was found out about networks, so that each is read once and not for every instance.
#[derive(Debug, Default)]
pub(crate) struct Addresses {
    networks: HashMap<Vec<Step>, Arc<Network>>,
    /// By network and zones.
    pools: HashMap<PoolKey, Arc<[Ipv4Addr]>>,
}

/// The static addresses of a network.
#[derive(Debug, Default)]
struct Network {
    subnets: Vec<Vec<Ipv4Addr>>,
    /// The subnets of each zone, in their order.
    zones: IndexMap<String, Vec<usize>>,
}

impl Addresses {
    /// The addresses of `zones`, each once: a subnet in several zones is in the pool of each.
    fn pool(&mut self, path: &[Step], zones: &[String], network: &Network) -> Arc<[Ipv4Addr]> {
        let key = (path.to_vec(), zones.to_vec());
        if let Some(pool) = self.pools.get(&key) {
            return Arc::clone(pool);
        }
        let mut seen = HashSet::new();
        let subnets = zones.iter().filter_map(|zone| network.zones.get(zone)).flatten();
        let subnets: Vec<_> = subnets.filter(|subnet| seen.insert(**subnet)).collect();
        let addresses = subnets.into_iter().filter_map(|subnet| network.subnets.get(*subnet));
        let mut seen = HashSet::new();
        let addresses = addresses.flatten().filter(|address| seen.insert(**address));
        let pool: Arc<[Ipv4Addr]> = addresses.copied().collect();
        keep(&mut self.pools, key, &pool);
        pool
    }
}

fn keep<K: Eq + std::hash::Hash, V: ?Sized>(kept: &mut HashMap<K, Arc<V>>, key: K, new: &Arc<V>) {
    if kept.len() >= KEPT_MAX {
        kept.clear();
    }
    kept.insert(key, Arc::clone(new));
}

/// The network of that name, and where its subnets are.
fn network(machine: &mut Machine<'_>, name: &str) -> Result<(Vec<Step>, Arc<Network>), Fault> {
    let path = [Step::Key("networks".into()), Step::Key(name.into())];
    let path = locate(machine, &path, "subnets")?;
    if let Some(known) = machine.addresses.networks.get(&path) {
        return Ok((path, Arc::clone(known)));
    }
    let network = Arc::new(read(machine.node(&path), name)?);
    keep(&mut machine.addresses.networks, path.clone(), &network);
    Ok((path, network))
}

fn read(subnets: Option<&Node>, name: &str) -> Result<Network, Fault> {
    let mut network = Network::default();
    let mut left = POOL_MAX;
    for subnet in subnets.and_then(Node::as_list).unwrap_or_default() {
        let entries = subnet.as_map();
        let mut addresses = Vec::new();
        let ranges = entries.and_then(|map| map.get("static")).and_then(Node::as_list);
        for range in ranges.unwrap_or_default() {
            let text = range.as_str().ok_or_else(|| {
                Fault::Failed(format!("{name} is not a well-formed BOSH network"))
            })?;
            expand(text, &mut addresses, &mut left)?;
        }
        let number = network.subnets.len();
        network.subnets.push(addresses);
        for zone in zones_of(subnet) {
            network.zones.entry(zone.to_owned()).or_default().push(number);
        }
    }
    Ok(network)
}

/// The zones that a subnet is in: its `az`, and those of `azs`.
fn zones_of(subnet: &Node) -> Vec<&str> {
    let field = |name| subnet.as_map().and_then(|map| map.get(name));
    let listed = field("azs").and_then(Node::as_list).unwrap_or_default();
    let named = field("az").into_iter().chain(listed).filter_map(Node::as_str);
    let zones: Vec<_> = named.filter(|zone| !zone.is_empty()).collect();
    if zones.is_empty() { vec![DEFAULT_ZONE] } else { zones }
}

/// Adds the addresses of `range`, of which `left` more may be.
fn expand(range: &str, addresses: &mut Vec<Ipv4Addr>, left: &mut usize) -> Result<(), Fault> {
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
        *left = left.checked_sub(1).ok_or_else(|| {
            Fault::Failed(format!("a pool of more than {POOL_MAX} static addresses"))
        })?;
        addresses.push(address.into());
    }
    Ok(())
}

/// The zone, if it names one, and the number that an argument asks for.
fn wanted(arg: &Node) -> Result<(Option<&str>, i64), Fault> {
    let format = || {
        Fault::Failed(
            "static_ips operator arguments must have format <az>:<number> or <number>".to_owned(),
        )
    };
    match &arg.value {
        Value::Int(n) => Ok((None, *n)),
        Value::Str(text) => match text.split_once(':') {
            Some((zone, number)) => Ok((Some(zone), number.parse().ok().ok_or_else(format)?)),
            None => Ok((None, text.parse().ok().ok_or_else(format)?)),
        },
        _ => Err(format()),
    }
}

/// Those of `zones` that an argument chooses from.
fn chosen<'a>(zone: Option<&str>, zones: &'a [String]) -> Result<&'a [String], Fault> {
    let Some(zone) = zone else { return Ok(zones) };
    let known = zones.iter().position(|known| known == zone);
    known.map(|at| &zones[at..=at]).ok_or_else(|| {
        let listed = zones.join(" ");
        Fault::Failed(format!("could not find AZ {zone} in instance_groups AZS [{listed}]"))
    })
}

fn at(pool: &[Ipv4Addr], number: i64) -> Result<Ipv4Addr, Fault> {
    let index = usize::try_from(number).map_err(|_negative| {
        Fault::Failed(
            "static_ips operator only accepts literal non-negative numbers for arguments"
                .to_owned(),
        )
    })?;
    pool.get(index).copied().ok_or_else(|| {
        Fault::Failed(format!(
            "request for static_ip({index}) in a pool of only {} (zero-indexed) static addresses",
            pool.len()
        ))
    })
}
