//! `nft -j list ruleset` (libnftables-json(5)).

use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;
use serde_json::Value;

use super::rules::{Base, Condition, Rule, Rules, Tool, Verdict};
use crate::turn::Transport;

/// The hooks that a packet for this machine passes.
const HOOKS: [&str; 3] = ["ingress", "prerouting", "input"];

/// The families of tables that those hooks belong to.
const FAMILIES: [&str; 4] = ["inet", "ip", "ip6", "netdev"];

/// Tables by which iptables keeps its rules in nftables. What they hold is better read by iptables.
const IPTABLES_TABLES: [&str; 5] = ["raw", "mangle", "nat", "filter", "security"];

type Sets = HashMap<String, Value>;

/// Reads the rules. `None` if the text is not such a listing. `skip` are the families (`ip`, `ip6`)
/// whose tables of iptables were read elsewhere.
pub(super) fn parse(text: &str, skip: &[&str]) -> Option<Rules> {
    // Some versions print a warning about the tables of iptables first.
    let listing: Value = serde_json::from_str(&text[text.find('{')?..]).ok()?;
    let objects = listing.get("nftables")?.as_array()?;
    let skipped = |object: &Value| {
        let table = object.get("table").and_then(Value::as_str);
        skip.contains(&string(object, "family"))
            && table.is_some_and(|table| IPTABLES_TABLES.contains(&table))
    };
    let each = |kind: &'static str| {
        let of_kind = objects.iter().filter_map(move |object| object.get(kind));
        of_kind.filter(|object| !skipped(object))
    };
    let mut sets = Sets::new();
    for set in each("set") {
        let elements = set.get("elem").cloned().unwrap_or(Value::Array(vec![]));
        sets.insert(chain_key(set, string(set, "name")), elements);
    }
    let mut rules = Rules::default();
    for chain in each("chain") {
        let name = string(chain, "name");
        rules.chains.entry(chain_key(chain, name)).or_default();
        // Bridges and ARP have hooks of these names too, which packets for this machine do not pass.
        let is_filter =
            string(chain, "type") == "filter" && FAMILIES.contains(&string(chain, "family"));
        if is_filter && HOOKS.contains(&string(chain, "hook")) {
            rules.bases.push(base(chain, name));
        }
    }
    for rule in each("rule") {
        let chain = rules
            .chains
            .entry(chain_key(rule, string(rule, "chain")))
            .or_default();
        chain.extend(parse_rule(rule, &sets));
    }
    Some(rules)
}

fn base(chain: &Value, name: &str) -> Base {
    let (family, table) = (string(chain, "family"), string(chain, "table"));
    Base {
        chain: chain_key(chain, name),
        v4: match family {
            "ip" => Some(true),
            "ip6" => Some(false),
            _ => None,
        },
        accepts: string(chain, "policy") != "drop",
        name: format!("chain {name} of nft table {family} {table}"),
        tool: if table == "firewalld" {
            Tool::Firewalld
        } else {
            Tool::Nft
        },
    }
}

/// Chains and sets belong to a table.
fn chain_key(object: &Value, name: &str) -> String {
    let (family, table) = (string(object, "family"), string(object, "table"));
    format!("{family} {table} {name}")
}

fn string<'a>(object: &'a Value, key: &str) -> &'a str {
    object.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// The rules that a line of nft is: a map of verdicts is one for each of its elements.
fn parse_rule(rule: &Value, sets: &Sets) -> Vec<Rule> {
    let (family, table) = (string(rule, "family"), string(rule, "table"));
    let handle = rule.get("handle").and_then(Value::as_u64).unwrap_or(0);
    let name = format!(
        "rule {handle} in chain {} of nft table {family} {table}",
        string(rule, "chain")
    );
    let key = |chain: &str| chain_key(rule, chain);
    let mut conditions = vec![];
    let mut rules = vec![];
    let statements = rule.get("expr").and_then(Value::as_array);
    for statement in statements.into_iter().flatten() {
        let Some((kind, value)) = statement
            .as_object()
            .and_then(|object| object.iter().next())
        else {
            continue;
        };
        match kind.as_str() {
            "match" => {
                conditions.extend(implied(&value["left"]));
                conditions.push(condition(value, &key, sets));
            }
            "vmap" => {
                rules.extend(verdict_map(value, &conditions, &name, &key, sets));
                continue;
            }
            _ => {}
        }
        let verdict = match verdict(kind, value, &key) {
            Some(verdict) => verdict,
            None if is_harmless(kind) => continue,
            // A limit, or an extension of iptables: it may stop here.
            None => {
                conditions.push(Condition::Unknown);
                continue;
            }
        };
        rules.push(Rule {
            conditions: conditions.clone(),
            verdict,
            name: name.clone(),
        });
    }
    // An extension of iptables may be the target too.
    let only_unknown = rules.is_empty() && conditions.contains(&Condition::Unknown);
    let extension = |statement: &Value| {
        let extension = statement.get("xt");
        extension.is_some_and(|extension| string(extension, "type") != "match")
    };
    if only_unknown && statements.is_some_and(|all| all.iter().any(extension)) {
        rules.push(Rule {
            conditions,
            verdict: Verdict::Unknown,
            name,
        });
    }
    rules
}

fn verdict(kind: &str, value: &Value, key: &impl Fn(&str) -> String) -> Option<Verdict> {
    let target = || key(string(value, "target"));
    Some(match kind {
        "accept" => Verdict::Accept,
        "drop" | "reject" => Verdict::Drop,
        "return" => Verdict::Return,
        "jump" => Verdict::Jump(target()),
        "goto" => Verdict::Goto(target()),
        "notrack" => Verdict::NoTrack,
        "dnat" | "redirect" | "queue" | "tproxy" | "synproxy" | "fwd" => Verdict::Unknown,
        _ => return None,
    })
}

/// Statements that let the packet go on.
fn is_harmless(kind: &str) -> bool {
    const HARMLESS: [&str; 10] = [
        "match",
        "counter",
        "log",
        "mangle",
        "comment",
        "set",
        "map",
        "dup",
        "ct helper",
        "flow",
    ];
    HARMLESS.contains(&kind)
}

fn verdict_map(
    vmap: &Value,
    conditions: &[Condition],
    name: &str,
    key: &impl Fn(&str) -> String,
    sets: &Sets,
) -> Vec<Rule> {
    let elements = vmap.pointer("/data/set").and_then(Value::as_array);
    let Some(elements) = elements else {
        let mut conditions = conditions.to_vec();
        conditions.push(Condition::Unknown);
        return vec![Rule {
            conditions,
            verdict: Verdict::Unknown,
            name: name.to_owned(),
        }];
    };
    let left = &vmap["key"];
    let mut conditions = conditions.to_vec();
    conditions.extend(implied(left));
    let rule = |element: &Value| {
        let (right, then) = (element.get(0)?, element.get(1)?);
        let (kind, value) = then.as_object()?.iter().next()?;
        let mut conditions = conditions.clone();
        if right.as_str() != Some("*") {
            conditions.push(compare(left, right, key, sets));
        }
        Some(Rule {
            conditions,
            verdict: verdict(kind, value, key)?,
            name: name.to_owned(),
        })
    };
    elements.iter().filter_map(rule).collect()
}

fn condition(value: &Value, key: &impl Fn(&str) -> String, sets: &Sets) -> Condition {
    let (left, right) = (&value["left"], &value["right"]);
    let found = compare(left, right, key, sets);
    match string(value, "op") {
        "==" | "in" => found,
        "!=" => Condition::Not(Box::new(found)),
        _ => Condition::Unknown,
    }
}

fn compare(left: &Value, right: &Value, key: &impl Fn(&str) -> String, sets: &Sets) -> Condition {
    let right = elements(right, key, sets);
    let field = |kind: &str| left.pointer(kind).and_then(Value::as_str);
    if let Some(name) = field("/payload/field") {
        let protocol = field("/payload/protocol").unwrap_or_default();
        return payload(protocol, name, &right);
    }
    if let Some(name) = field("/meta/key") {
        return meta(name, &right);
    }
    if left.pointer("/ct/key").and_then(Value::as_str) == Some("state") {
        let has = |state: &str| right.iter().any(|value| value.as_str() == Some(state));
        // What is not tracked is no new conversation either; whether a rule does that is open.
        return match (has("new"), has("untracked")) {
            (true, _) => Condition::Always,
            (false, true) => Condition::Unknown,
            (false, false) => Condition::Never,
        };
    }
    if is_tcp_flags(left) {
        return match right.as_slice() {
            [flag] if flag.as_str() == Some("syn") => Condition::Always,
            _ => Condition::Never,
        };
    }
    if left.pointer("/ct/key").and_then(Value::as_str) == Some("status") {
        return Condition::Never;
    }
    if let Some(fib) = left.get("fib") {
        return route(fib, &right);
    }
    Condition::Unknown
}

/// A field is one of its protocol's packets only, whatever it is compared with.
fn implied(left: &Value) -> Option<Condition> {
    if is_tcp_flags(left) {
        return Some(Condition::Transport(vec![Transport::Tcp]));
    }
    let protocol = left.pointer("/payload/protocol")?.as_str()?;
    Some(match protocol {
        "udp" => Condition::Transport(vec![Transport::Udp]),
        "tcp" => Condition::Transport(vec![Transport::Tcp]),
        "th" | "ether" => return None,
        "ip" => Condition::V4(true),
        "ip6" => Condition::V4(false),
        "icmp" | "icmpv6" | "sctp" | "dccp" | "arp" | "ah" | "esp" => Condition::Never,
        _ => Condition::Unknown,
    })
}

/// The values on the right: one, those of a set, or those of a named set.
fn elements(right: &Value, key: &impl Fn(&str) -> String, sets: &Sets) -> Vec<Value> {
    let list = if let Some(name) = right.as_str().and_then(|name| name.strip_prefix('@')) {
        sets.get(&key(name)).and_then(Value::as_array)
    } else {
        right
            .get("set")
            .and_then(Value::as_array)
            .or_else(|| right.as_array())
    };
    let Some(list) = list else {
        return vec![right.clone()];
    };
    // An element with a timeout or a counter is in an object of its own.
    let plain = |value: &Value| value.pointer("/elem/val").unwrap_or(value).clone();
    list.iter().map(plain).collect()
}

/// Whether flags of TCP are looked at; those of a first packet are SYN alone.
fn is_tcp_flags(left: &Value) -> bool {
    let field = left.pointer("/&/0/payload/field");
    field.and_then(Value::as_str) == Some("flags")
}

/// What the routes say of a packet: it is for this machine, and came by where an answer would leave.
fn route(fib: &Value, right: &[Value]) -> Condition {
    let flags = &fib["flags"];
    let about = |name: &str| {
        let several = flags.as_array().into_iter().flatten();
        several
            .chain([flags])
            .any(|flag| flag.as_str() == Some(name))
    };
    let is = |name: &str| right.iter().any(|value| value.as_str() == Some(name));
    match string(fib, "result") {
        "type" if about("daddr") && is("local") => Condition::Always,
        "type" if about("daddr") => Condition::Never,
        "oif" | "oifname" | "check" if about("saddr") => match right {
            [Value::Bool(true)] => Condition::Always,
            [Value::Bool(false)] => Condition::Never,
            [number] if number.as_u64() == Some(0) => Condition::Never,
            _ => Condition::Unknown,
        },
        _ => Condition::Unknown,
    }
}

fn payload(protocol: &str, field: &str, right: &[Value]) -> Condition {
    match (protocol, field) {
        ("udp" | "tcp" | "th", "dport") => ports(right).map_or(Condition::Unknown, Condition::Port),
        ("ip" | "ip6", "saddr") => match networks(right) {
            // Half of all addresses is nobody in particular.
            Some(networks) if networks.iter().any(|net| net.prefix_len() < 4) => Condition::Unknown,
            _ => Condition::Source,
        },
        ("ip" | "ip6", "daddr") => networks(right).map_or(Condition::Unknown, Condition::To),
        ("ip", "protocol") | ("ip6", "nexthdr") => transports(right),
        _ => Condition::Unknown,
    }
}

fn meta(key: &str, right: &[Value]) -> Condition {
    let texts: Vec<&str> = right.iter().filter_map(Value::as_str).collect();
    match key {
        "l4proto" => transports(right),
        "nfproto" | "protocol" => match texts.as_slice() {
            ["ipv4" | "ip"] => Condition::V4(true),
            ["ipv6" | "ip6"] => Condition::V4(false),
            _ => Condition::Unknown,
        },
        "iif" | "iifname" if texts.len() == right.len() => {
            Condition::Interface(texts.into_iter().map(str::to_owned).collect())
        }
        "pkttype" => match texts.as_slice() {
            ["host" | "unicast"] => Condition::Always,
            _ => Condition::Never,
        },
        _ => Condition::Unknown,
    }
}

fn transports(right: &[Value]) -> Condition {
    let transport = |value: &Value| match (value.as_str(), value.as_u64()) {
        (Some("udp"), _) | (_, Some(17)) => Some(Transport::Udp),
        (Some("tcp"), _) | (_, Some(6)) => Some(Transport::Tcp),
        _ => None,
    };
    Condition::Transport(right.iter().filter_map(transport).collect())
}

fn ports(right: &[Value]) -> Option<Vec<RangeInclusive<u16>>> {
    right
        .iter()
        .map(|value| match value.get("range") {
            Some(range) => Some(port(range.get(0)?)?..=port(range.get(1)?)?),
            None => port(value).map(|port| port..=port),
        })
        .collect()
}

fn port(value: &Value) -> Option<u16> {
    u16::try_from(value.as_u64()?).ok()
}

fn networks(right: &[Value]) -> Option<Vec<IpNet>> {
    right
        .iter()
        .map(|value| {
            if let Some(prefix) = value.get("prefix") {
                let address: IpAddr = string(prefix, "addr").parse().ok()?;
                let len = u8::try_from(prefix.get("len")?.as_u64()?).ok()?;
                return IpNet::new(address, len).ok();
            }
            value.as_str()?.parse::<IpAddr>().ok().map(IpNet::from)
        })
        .collect()
}
