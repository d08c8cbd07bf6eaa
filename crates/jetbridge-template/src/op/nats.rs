//! `(( nats "kv:BUCKET/KEY" [SERVER] ))` and `(( nats "obj:BUCKET/NAME" [SERVER] ))`: a value of
//! a store. What is fetched is a value: operators in it stay text.

use crate::eval::{Fault, Item, Machine};
use crate::expr::{Call, Expr, Infix};
use crate::fetch::{Answer, Kind, Request, Server};
use crate::tree::{Map, Node, Value, shown};
use crate::typing;

pub(super) fn run(machine: &mut Machine<'_>, call: &Call) -> Result<Node, Fault> {
    let (args, default) = split(&call.args);
    if machine.options.redact {
        return Ok(Node::text("REDACTED"));
    }
    let mut items = Vec::with_capacity(args.len());
    for arg in args {
        items.push(machine.eval(arg)?);
    }
    let request = request(call, &items)?;
    let result = read(machine, call, request);
    match (result, default) {
        (Err(Fault::Absent(_)), Some(default)) => Ok(machine.eval(default)?.node),
        (result, _) => result,
    }
}

/// What a call reads, where its arguments are all literal.
pub(crate) fn literal_request(call: &Call) -> Option<Request> {
    let (args, _) = split(&call.args);
    let items: Option<Vec<Item>> = args.into_iter().map(literal).collect();
    request(call, &items?).ok()
}

fn literal(expr: &Expr) -> Option<Item> {
    let node = match expr {
        Expr::Literal(node) => (**node).clone(),
        Expr::Map(entries) => {
            let mut map = Box::<Map>::default();
            for (key, value) in entries {
                map.insert(key.as_str().into(), literal(value)?.node);
            }
            Node::new(Value::Map(map))
        }
        _ => return None,
    };
    Some(Item { node, reference: None })
}

/// The arguments, and what stands behind their `||`.
fn split(args: &[Expr]) -> (Vec<&Expr>, Option<&Expr>) {
    let mut plain: Vec<&Expr> = args.iter().collect();
    let Some(Expr::Infix(Infix::Or, left, default)) = args.last() else { return (plain, None) };
    plain.pop();
    // Behind `as KIND` nothing stands before the `||`.
    if !matches!(&**left, Expr::Literal(node) if node.is_null()) {
        plain.push(left);
    }
    (plain, Some(default))
}

fn request(call: &Call, items: &[Item]) -> Result<Request, Fault> {
    let hard = |what: &str| Fault::Hard(what.to_owned());
    let Some(path) = items.first() else {
        return Err(hard("nats operator requires at least one argument"));
    };
    let Some(path) = path.node.as_str() else {
        return Err(hard("first argument to nats operator must be a string"));
    };
    if items.len() > 2 {
        return Err(hard("nats operator takes a path and at most one server"));
    }
    let Some((store, rest)) = path.split_once(':') else {
        return Err(hard(
            "invalid NATS path format, expected 'kv:store/key' or 'obj:bucket/object'",
        ));
    };
    let (kind, expected) = match store.to_ascii_lowercase().as_str() {
        "kv" => (Kind::Kv, "invalid KV path format, expected 'store/key'"),
        "obj" => (Kind::Object, "invalid Object path format, expected 'bucket/object'"),
        _ => {
            return Err(Fault::Hard(format!(
                "invalid store type '{store}', must be 'kv' or 'obj'"
            )));
        }
    };
    if rest.is_empty() {
        return Err(hard("empty path after store type"));
    }
    let Some((bucket, name)) = rest.split_once('/').filter(|(b, n)| !b.is_empty() && !n.is_empty())
    else {
        return Err(hard(expected));
    };
    let server = server(call, items.get(1))?;
    Ok(Request { server, kind, bucket: bucket.to_owned(), name: name.to_owned() })
}

fn server(call: &Call, item: Option<&Item>) -> Result<Server, Fault> {
    let server = match item.map(|item| &item.node.value) {
        None => match &call.target {
            Some(name) => Server::Target(name.to_string()),
            None => Server::Default,
        },
        Some(_) if call.target.is_some() => {
            return Err(Fault::Hard("nats takes an @target or a server, not both".to_owned()));
        }
        Some(Value::Str(url)) => Server::url(url),
        Some(Value::Map(map)) => {
            let mut settings = std::collections::BTreeMap::new();
            for (key, node) in map.iter() {
                if node.as_map().is_some() || node.as_list().is_some() {
                    return Err(Fault::Hard(format!("the server's `{key}` is not a scalar")));
                }
                settings.insert(key.to_string(), shown(node));
            }
            Server::settings(settings)
        }
        Some(_) => {
            return Err(Fault::Hard(
                "second argument must be URL string or configuration map".to_owned(),
            ));
        }
    };
    Ok(server)
}

fn read(machine: &mut Machine<'_>, call: &Call, request: Request) -> Result<Node, Fault> {
    machine.note_read(&request);
    machine.used.insert(request.clone());
    let Some(answer) = machine.fetched.get(&request) else {
        machine.ask(request);
        return Err(Fault::Waiting);
    };
    match answer {
        Answer::Absent { message, .. } => Err(Fault::Absent(message.clone())),
        Answer::Failed(message) | Answer::Outage(message) => Err(Fault::Hard(message.clone())),
        Answer::Found(found) => {
            if found.secret {
                machine.taint(&String::from_utf8_lossy(&found.bytes));
            }
            let node = match &call.cast {
                Some(kind) => typing::cast(found, kind),
                None => typing::natural(&request, found),
            };
            node.map_err(|what| {
                Fault::Hard(format!("{} '{}': {what}", request.kind.noun(), request.name))
            })
        }
    }
}
