//! Options as their JSON schema describes them: the one description that checks, listings and documentation share.

use schemars::{JsonSchema, SchemaGenerator};
use serde_json::Value;

/// References are followed this often; real ones nest a few deep.
const MOST_REFERENCES: usize = 16;

/// The schema of `T`.
pub fn schema_of<T: JsonSchema>() -> Value {
    SchemaGenerator::default().into_root_schema_for::<T>().to_value()
}

/// One place in a schema.
#[derive(Debug, Clone, Copy)]
pub struct Node<'a> {
    root: &'a Value,
    /// As it is written where it is used; holds its own description and default.
    used: &'a Value,
    /// What it refers to, without `null` beside it.
    meant: &'a Value,
}

impl<'a> Node<'a> {
    /// The place where a schema begins.
    pub fn root(schema: &'a Value) -> Self {
        Self::at(schema, schema)
    }

    fn at(root: &'a Value, used: &'a Value) -> Self {
        Self { root, used, meant: follow(root, used) }
    }

    /// The options of a table, by name.
    pub fn properties(self) -> impl Iterator<Item = (&'a str, Self)> {
        let properties = self.table().meant.get("properties").and_then(Value::as_object);
        properties.into_iter().flatten().map(move |(name, used)| (name.as_str(), Self::at(self.root, used)))
    }

    /// The option called `name`: one of the table's own, or of any name if the table is a map.
    pub fn property(self, name: &str) -> Option<Self> {
        let own = self.table().meant.get("properties").and_then(|properties| properties.get(name));
        own.map(|used| Self::at(self.root, used)).or_else(|| self.values())
    }

    /// What the values of a map are.
    pub fn values(self) -> Option<Self> {
        let values = self.table().meant.get("additionalProperties").filter(|any| any.is_object());
        values.map(|used| Self::at(self.root, used))
    }

    /// What a list holds.
    pub fn items(self) -> Option<Self> {
        self.meant.get("items").map(|used| Self::at(self.root, used))
    }

    /// The options that can't be left out.
    pub fn required(self) -> impl Iterator<Item = &'a str> {
        self.table()
            .meant
            .get("required")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
    }

    /// Whether it is a table that has its own options and no others.
    pub fn is_closed(self) -> bool {
        let any_of = ["oneOf", "anyOf", "allOf", "patternProperties"];
        let table = self.table();
        let open = table.meant.get("additionalProperties").is_some_and(|any| *any != Value::Bool(false));
        table.is("object") && !open && !any_of.iter().any(|word| table.meant.get(word).is_some())
    }

    /// Whether values may be of the JSON type `word`.
    pub fn is(self, word: &str) -> bool {
        match self.meant.get("type") {
            Some(Value::String(one)) => one == word,
            Some(Value::Array(several)) => several.iter().any(|one| one == word),
            _ => self.choices().any(|choice| choice.is(word)),
        }
    }

    /// The one table among the things that it may be, if there is one; otherwise itself.
    fn table(self) -> Self {
        let mut tables = self.choices().filter(|choice| choice.is("object"));
        match (tables.next(), tables.next()) {
            (Some(only), None) => only,
            _ => self,
        }
    }

    /// What it may be, if that is one of several things.
    fn choices(self) -> impl Iterator<Item = Self> {
        let listed = self.meant.get("anyOf").and_then(Value::as_array).into_iter().flatten();
        listed
            .filter(|choice| choice.get("type").is_none_or(|word| word != "null"))
            .map(move |used| Self::at(self.root, used))
    }

    /// What it is for, on one line.
    pub fn description(self) -> Option<String> {
        let text = [self.used, self.meant].into_iter().find_map(|node| node.get("description")?.as_str())?;
        Some(text.split_whitespace().collect::<Vec<_>>().join(" "))
    }

    /// What it is if it is left out.
    pub fn default(self) -> Option<&'a Value> {
        self.used.get("default").filter(|value| !value.is_null())
    }

    /// The words that it may be, each with its description.
    pub fn words(self) -> Vec<(&'a str, Option<&'a str>)> {
        let plain = self.meant.get("enum").and_then(Value::as_array).into_iter().flatten();
        let described = self.meant.get("oneOf").and_then(Value::as_array).into_iter().flatten();
        let plain = plain.filter_map(|word| Some((word.as_str()?, None)));
        let described = described.flat_map(|one| {
            let several = one.get("enum").and_then(Value::as_array).into_iter().flatten();
            let description = one.get("description").and_then(Value::as_str);
            one.get("const")
                .into_iter()
                .chain(several)
                .filter_map(move |word| Some((word.as_str()?, description)))
        });
        plain.chain(described).collect()
    }

    /// How people call its type.
    pub fn type_name(self) -> String {
        let words = self.words();
        if !words.is_empty() {
            return words.iter().map(|(word, _)| format!("\"{word}\"")).collect::<Vec<_>>().join(" | ");
        }
        if let Some(items) = self.items() {
            return format!("list of {}", items.type_name());
        }
        let mut choices: Vec<_> = self.choices().map(Self::type_name).collect();
        if !choices.is_empty() {
            choices.dedup();
            return choices.join(" | ");
        }
        let names =
            [("string", "string"), ("integer", "integer"), ("number", "number"), ("boolean", "boolean")];
        let named: Vec<_> = names.iter().filter(|(word, _)| self.is(word)).map(|(_, name)| *name).collect();
        match named.as_slice() {
            [] if self.is("array") => "list".to_owned(),
            [] => self.values().map_or("table".to_owned(), |values| format!("map of {}", values.type_name())),
            several => several.join(" | "),
        }
    }
}

/// Follows references, and leaves `null` out of a choice between it and one other thing.
fn follow<'a>(root: &'a Value, used: &'a Value) -> &'a Value {
    let mut node = used;
    for _ in 0..MOST_REFERENCES {
        let next = match node.get("$ref").and_then(Value::as_str) {
            Some(reference) => reference.strip_prefix('#').and_then(|pointer| root.pointer(pointer)),
            None => only_choice(node),
        };
        match next {
            Some(next) => node = next,
            None => break,
        }
    }
    node
}

fn only_choice(node: &Value) -> Option<&Value> {
    let choices = node.get("anyOf").or_else(|| node.get("allOf"))?.as_array()?;
    let mut real = choices.iter().filter(|choice| choice.get("type").is_none_or(|word| word != "null"));
    let only = real.next()?;
    real.next().is_none().then_some(only)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Where to.
    #[derive(JsonSchema)]
    #[allow(dead_code)]
    struct Options {
        /// The url,
        /// in full.
        url: String,
        /// How many.
        #[serde(default = "eight")]
        count: u16,
        level: Option<Level>,
        filters: BTreeMap<String, Vec<String>>,
        nested: Option<Nested>,
        either: Either,
    }

    #[derive(JsonSchema)]
    #[serde(untagged)]
    #[allow(dead_code)]
    enum Either {
        Switch(bool),
        Table(Nested),
    }

    #[derive(JsonSchema)]
    #[allow(dead_code)]
    struct Nested {
        deep: Option<bool>,
    }

    /// How sure.
    #[derive(JsonSchema)]
    #[serde(rename_all = "snake_case")]
    #[allow(dead_code)]
    enum Level {
        /// A bit.
        Processed,
        /// Fully.
        Finalized,
    }

    fn eight() -> u16 {
        8
    }

    #[test]
    fn a_schema_tells_names_types_defaults_and_descriptions() {
        let schema = schema_of::<Options>();
        let root = Node::root(&schema);
        let option = |name| root.property(name).expect("it is declared");
        assert_eq!(option("url").description().as_deref(), Some("The url, in full."));
        assert_eq!(option("count").default(), Some(&Value::from(8)));
        assert_eq!(option("level").type_name(), "\"processed\" | \"finalized\"");
        assert_eq!(option("level").words()[1], ("finalized", Some("Fully.")));
        assert_eq!(option("filters").type_name(), "map of list of string");
        assert_eq!(option("filters").property("any").expect("a map").type_name(), "list of string");
        assert_eq!(option("nested").property("deep").expect("it is declared").type_name(), "boolean");
        assert_eq!(root.required().collect::<Vec<_>>(), ["url", "filters", "either"]);
    }

    #[test]
    fn the_table_among_several_choices_is_looked_into() {
        let schema = schema_of::<Options>();
        let either = Node::root(&schema).property("either").expect("it is declared");
        assert_eq!(either.type_name(), "boolean | table");
        assert!(either.is_closed() && either.property("deep").is_some());
    }

    #[test]
    fn structs_are_closed_and_maps_are_open() {
        let schema = schema_of::<Options>();
        let root = Node::root(&schema);
        assert!(root.is_closed());
        assert!(root.property("nested").expect("it is declared").is_closed());
        assert!(!root.property("filters").expect("it is declared").is_closed());
    }
}
