//! The forms of an explanation: text, JSON, YAML, XML.
//!
//! In: the plan as a tree. Out: lines. Invariant: keys, their order and their spelling are PostgreSQL's; counters of ours
//! follow them. Deliberately absent: anything that is not in the tree.

use crate::statement::explain::Explain;

use super::{Node, Plan, Stage};

/// Characters of an operator's details that are shown without VERBOSE.
const DETAILS_MAX: usize = 400;

fn shown(node: &Node, explain: &Explain) -> String {
    if explain.verbose { node.details.clone() } else { node.details.chars().take(DETAILS_MAX).collect() }
}

/// `spilled_bytes` as `Spilled Bytes`.
fn title(name: &str) -> String {
    let word = |w: &str| {
        let mut chars = w.chars();
        chars.next().map(|c| c.to_uppercase().chain(chars).collect::<String>()).unwrap_or_default()
    };
    name.split('_').map(word).collect::<Vec<_>>().join(" ")
}

/// One line an operator, details below it.
pub fn text(plan: &Plan, explain: &Explain) -> Vec<String> {
    let mut lines = Vec::new();
    text_node(&plan.root, explain, 0, &mut lines);
    if !plan.rewrites.is_empty() {
        lines.push(format!("Rewrites: {}", plan.rewrites.join("; ")));
    }
    for stage in &plan.stages {
        let bytes: Vec<String> = stage.bytes.iter().map(|(name, n)| format!("{name}={n}")).collect();
        lines.push(format!("Stage {}: tasks={} {}", stage.number, stage.tasks, bytes.join(" ")));
    }
    if explain.summary.unwrap_or(explain.analyze) {
        lines.push(format!("Planning Time: {:.3} ms", plan.planning_ms));
        lines.extend(plan.execution_ms.map(|ms| format!("Execution Time: {ms:.3} ms")));
    }
    lines
}

fn text_node(node: &Node, explain: &Explain, depth: usize, lines: &mut Vec<String>) {
    let indent = if depth == 0 { String::new() } else { format!("{}->  ", " ".repeat(depth * 6 - 4)) };
    let mut line = format!("{indent}{}", node.name);
    if explain.costs {
        line.push_str(&format!("  (cost={:.2}..{:.2} rows={} width={})", node.startup, node.total, node.rows, node.width));
    }
    if let Some(actual) = &node.actual {
        line.push_str(&match explain.timing {
            true => format!(" (actual time=0.000..{:.3} rows={} loops=1)", actual.ms, actual.rows),
            false => format!(" (actual rows={} loops=1)", actual.rows),
        });
    }
    lines.push(line);
    let inner = " ".repeat(if depth == 0 { 2 } else { depth * 6 + 2 });
    let details = shown(node, explain);
    if !details.is_empty() {
        lines.push(format!("{inner}{details}"));
    }
    if let Some(actual) = node.actual.as_ref().filter(|a| !a.counters.is_empty()) {
        let device = (!actual.devices.is_empty()).then(|| format!("device={}", actual.devices.join(",")));
        let counters = actual.counters.iter().map(|(n, v)| format!("{n}={v}")).chain(device);
        lines.push(format!("{inner}{}", counters.collect::<Vec<_>>().join(" ")));
    }
    for child in &node.children {
        text_node(child, explain, depth + 1, lines);
    }
}

/// A value of the structured forms, in the order of its keys.
enum Item {
    Text(String),
    /// A number or a truth value, as it is written.
    Plain(String),
    Map(Vec<(String, Item)>),
    List(Vec<Item>),
}

fn plain(value: impl ToString) -> Item {
    Item::Plain(value.to_string())
}

fn object(node: &Node, explain: &Explain, outer: bool) -> Item {
    let mut map: Vec<(String, Item)> = Vec::new();
    let mut put = |key: &str, item: Item| map.push((key.to_owned(), item));
    put("Node Type", Item::Text(node.name.clone()));
    if !outer {
        put("Parent Relationship", Item::Text("Outer".into()));
    }
    put("Parallel Aware", plain(false));
    put("Async Capable", plain(false));
    if explain.costs {
        put("Startup Cost", Item::Plain(format!("{:.2}", node.startup)));
        put("Total Cost", Item::Plain(format!("{:.2}", node.total)));
        put("Plan Rows", plain(node.rows));
        put("Plan Width", plain(node.width));
    }
    if let Some(actual) = &node.actual {
        if explain.timing {
            put("Actual Startup Time", Item::Plain("0.000".into()));
            put("Actual Total Time", Item::Plain(format!("{:.3}", actual.ms)));
        }
        put("Actual Rows", plain(actual.rows));
        put("Actual Loops", plain(1));
    }
    let details = shown(node, explain);
    if !details.is_empty() {
        put("Details", Item::Text(details));
    }
    for (name, count) in node.actual.iter().flat_map(|a| &a.counters) {
        put(&title(name), plain(count));
    }
    if let Some(actual) = node.actual.as_ref().filter(|a| !a.devices.is_empty()) {
        put("Device", Item::Text(actual.devices.join(",")));
    }
    if !node.children.is_empty() {
        put("Plans", Item::List(node.children.iter().map(|c| object(c, explain, false)).collect()));
    }
    Item::Map(map)
}

fn document(plan: &Plan, explain: &Explain) -> Vec<(String, Item)> {
    let mut top = vec![("Plan".to_owned(), object(&plan.root, explain, true))];
    if !plan.rewrites.is_empty() {
        top.push(("Rewrites".into(), Item::List(plan.rewrites.iter().map(|r| Item::Text((*r).to_owned())).collect())));
    }
    if !plan.stages.is_empty() {
        let stage = |s: &Stage| {
            let mut item = vec![("Stage".to_owned(), Item::Plain(s.number.to_string())), ("Tasks".to_owned(), Item::Plain(s.tasks.to_string()))];
            item.extend(s.bytes.iter().map(|(name, n)| (title(name), Item::Plain(n.to_string()))));
            Item::Map(item)
        };
        top.push(("Stages".into(), Item::List(plan.stages.iter().map(stage).collect())));
    }
    if explain.summary.unwrap_or(explain.analyze) {
        top.push(("Planning Time".into(), Item::Plain(format!("{:.3}", plan.planning_ms))));
    }
    if let Some(ms) = plan.execution_ms {
        top.push(("Triggers".into(), Item::List(Vec::new())));
        top.push(("Execution Time".into(), Item::Plain(format!("{ms:.3}"))));
    }
    top
}

fn quoted(text: &str) -> String {
    serde_json::Value::String(text.to_owned()).to_string()
}

fn json_item(item: &Item, depth: usize) -> String {
    let (inner, indent) = ("  ".repeat(depth + 1), "  ".repeat(depth));
    match item {
        Item::Text(text) => quoted(text),
        Item::Plain(text) => text.clone(),
        Item::List(items) if items.is_empty() => "[\n".to_owned() + &indent + "]",
        Item::List(items) => {
            let items: Vec<String> = items.iter().map(|i| format!("{inner}{}", json_item(i, depth + 1))).collect();
            format!("[\n{}\n{indent}]", items.join(",\n"))
        }
        Item::Map(map) => {
            let items: Vec<String> = map.iter().map(|(k, i)| format!("{inner}{}: {}", quoted(k), json_item(i, depth + 1))).collect();
            format!("{{\n{}\n{indent}}}", items.join(",\n"))
        }
    }
}

/// A JSON array of one object.
pub fn json(plan: &Plan, explain: &Explain) -> String {
    json_item(&Item::List(vec![Item::Map(document(plan, explain))]), 0)
}

fn yaml_lines(map: &[(String, Item)], depth: usize, out: &mut String) {
    for (key, item) in map {
        // The first key of a list item stands behind its dash.
        let indent = if out.ends_with("- ") { String::new() } else { " ".repeat(depth * 2) };
        match item {
            Item::Map(inner) => {
                out.push_str(&format!("{indent}{key}: \n"));
                yaml_lines(inner, depth + 1, out);
            }
            Item::List(items) => {
                out.push_str(&format!("{indent}{key}: \n"));
                for inner in items {
                    out.push_str(&format!("{}- ", " ".repeat(depth * 2 + 2)));
                    match inner {
                        Item::Map(inner) => yaml_lines(inner, depth + 2, out),
                        Item::Text(text) => out.push_str(&format!("{}\n", quoted(text))),
                        Item::Plain(text) => out.push_str(&format!("{text}\n")),
                        Item::List(_) => {}
                    }
                }
            }
            Item::Text(text) => out.push_str(&format!("{indent}{key}: {}\n", quoted(text))),
            Item::Plain(text) => out.push_str(&format!("{indent}{key}: {text}\n")),
        }
    }
}

/// A YAML list of one map.
pub fn yaml(plan: &Plan, explain: &Explain) -> String {
    let mut out = "- ".to_owned();
    yaml_lines(&document(plan, explain), 1, &mut out);
    out.trim_end().to_owned()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn xml_lines(map: &[(String, Item)], depth: usize, out: &mut String) {
    let indent = "  ".repeat(depth);
    for (key, item) in map {
        let tag = key.replace(' ', "-");
        match item {
            Item::Map(inner) => {
                out.push_str(&format!("{indent}<{tag}>\n"));
                xml_lines(inner, depth + 1, out);
                out.push_str(&format!("{indent}</{tag}>\n"));
            }
            Item::List(items) => {
                out.push_str(&format!("{indent}<{tag}>\n"));
                let one = tag.strip_suffix('s').unwrap_or("Plan");
                for inner in items {
                    match inner {
                        Item::Map(inner) => {
                            out.push_str(&format!("{indent}  <{one}>\n"));
                            xml_lines(inner, depth + 2, out);
                            out.push_str(&format!("{indent}  </{one}>\n"));
                        }
                        Item::Text(text) | Item::Plain(text) => out.push_str(&format!("{indent}  <Item>{}</Item>\n", escaped(text))),
                        Item::List(_) => {}
                    }
                }
                out.push_str(&format!("{indent}</{tag}>\n"));
            }
            Item::Text(text) => out.push_str(&format!("{indent}<{tag}>{}</{tag}>\n", escaped(text))),
            Item::Plain(text) => out.push_str(&format!("{indent}<{tag}>{text}</{tag}>\n")),
        }
    }
}

/// An `explain` element.
pub fn xml(plan: &Plan, explain: &Explain) -> String {
    let mut out = "<explain xmlns=\"http://www.postgresql.org/2009/explain\">\n  <Query>\n".to_owned();
    xml_lines(&document(plan, explain), 2, &mut out);
    out.push_str("  </Query>\n</explain>");
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn names_of_counters() {
        assert_eq!(title("spilled_bytes"), "Spilled Bytes");
        assert_eq!(escaped("a < b & c"), "a &lt; b &amp; c");
    }
}
