//! From the flat map of keys to the caller's types: a serde deserializer that
//! knows, at every step, which key it stands on and where the value came from.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess,
    Visitor,
};

use super::SettingsError;
use super::source::{Leaf, Raw, Tree};
use super::values::OPTIONS_NAME;

pub(super) fn from_tree<T: DeserializeOwned>(tree: &Tree) -> Result<T, SettingsError> {
    let root = Node {
        leaves: &tree.leaves,
        key: String::new(),
        own: None,
    };
    T::deserialize(root).map_err(|fault| SettingsError::Key {
        key: fault.key.join("."),
        origin: fault.origin,
        message: fault.message,
    })
}

/// An error on its way up; each level puts its key in front.
#[derive(Debug)]
pub(super) struct Fault {
    key: Vec<String>,
    origin: Option<String>,
    message: String,
}

impl Fault {
    fn under(mut self, segment: &str, origin: Option<&Leaf>) -> Self {
        self.key.insert(0, segment.to_owned());
        if self.origin.is_none() {
            self.origin = origin.map(|leaf| leaf.origin.to_string());
        }
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self {
            key: Vec::new(),
            origin: None,
            message: message.to_string(),
        }
    }

    fn unknown_field(_field: &str, expected: &'static [&'static str]) -> Self {
        // The key itself is put in front on the way up.
        de::Error::custom(format_args!(
            "unknown key, known here are {}",
            expected.join(", ")
        ))
    }

    fn missing_field(field: &'static str) -> Self {
        let missing: Self = de::Error::custom("must be set");
        missing.under(field, None)
    }
}

/// One key: its own value, if it has one, and the keys below it.
struct Node<'de> {
    leaves: &'de BTreeMap<String, Leaf>,
    /// Full dotted key within `leaves`; empty at the root.
    key: String,
    own: Option<&'de Leaf>,
}

impl<'de> Node<'de> {
    /// The keys below this one, relative to it.
    fn below(&self) -> impl Iterator<Item = (&'de str, &'de Leaf)> + use<'de> {
        let prefix = if self.key.is_empty() {
            String::new()
        } else {
            format!("{}.", self.key)
        };
        self.leaves
            .range(prefix.clone()..)
            .take_while({
                let prefix = prefix.clone();
                move |(key, _)| key.starts_with(&prefix)
            })
            .map(move |(key, leaf)| (&key[prefix.len()..], leaf))
    }

    fn segments(&self) -> Vec<String> {
        self.below()
            .map(|(key, _)| key.split('.').next().unwrap_or(key).to_owned())
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect()
    }

    fn child(&self, segment: &str) -> Node<'de> {
        let key = if self.key.is_empty() {
            segment.to_owned()
        } else {
            format!("{}.{segment}", self.key)
        };
        Node {
            own: self.leaves.get(&key),
            leaves: self.leaves,
            key,
        }
    }

    /// The leaf to name as the source of an error on this key.
    fn source(&self) -> Option<&'de Leaf> {
        self.own.or_else(|| self.below().next().map(|(_, l)| l))
    }

    fn leaf(&self) -> Result<&'de Leaf, Fault> {
        match self.own {
            Some(leaf) if !matches!(leaf.value, Raw::Empty) => Ok(leaf),
            _ => Err(de::Error::custom(
                "this is a section; set the keys below it instead",
            )),
        }
    }

    /// The value as text, for targets that are made from text.
    fn text(&self) -> Result<Option<&'de str>, Fault> {
        Ok(match &self.leaf()?.value {
            Raw::Text(text) => Some(text),
            _ => None,
        })
    }

    /// The text of an untyped value, which may be read as another type.
    fn untyped(&self) -> Result<Option<&'de str>, Fault> {
        let leaf = self.leaf()?;
        Ok(match &leaf.value {
            Raw::Text(text) if leaf.words.is_some() => Some(text.trim()),
            _ => None,
        })
    }

    fn visit_scalar<V: Visitor<'de>>(&self, visitor: V) -> Result<V::Value, Fault> {
        match &self.leaf()?.value {
            Raw::Bool(value) => visitor.visit_bool(*value),
            Raw::Int(value) => visitor.visit_i64(*value),
            Raw::Float(value) => visitor.visit_f64(*value),
            Raw::Text(text) => visitor.visit_str(text),
            Raw::List(items) => visitor.visit_seq(Items::new(items)),
            Raw::Table(leaves) => visitor.visit_map(Keys::flat(root(leaves))),
            Raw::Empty => visitor.visit_unit(),
        }
    }

    fn visit_table<V: Visitor<'de>>(
        self,
        visitor: V,
        keys: fn(Node<'de>) -> Keys<'de>,
    ) -> Result<V::Value, Fault> {
        match self.own.map(|leaf| &leaf.value) {
            Some(Raw::Table(leaves)) => visitor.visit_map(keys(root(leaves))),
            Some(Raw::Empty) | None => visitor.visit_map(keys(self)),
            Some(_) => Err(de::Error::custom(
                "this is a section with keys of its own, not a single value",
            )),
        }
    }

    fn visit_number<V: Visitor<'de>>(&self, visitor: V) -> Result<V::Value, Fault> {
        let Some(text) = self.untyped()? else {
            return self.visit_scalar(visitor);
        };
        if let Ok(value) = text.parse::<i64>() {
            visitor.visit_i64(value)
        } else if let Ok(value) = text.parse::<u64>() {
            visitor.visit_u64(value)
        } else if let Ok(value) = text.parse::<f64>() {
            visitor.visit_f64(value)
        } else {
            visitor.visit_str(text)
        }
    }
}

fn root(leaves: &BTreeMap<String, Leaf>) -> Node<'_> {
    Node {
        leaves,
        key: String::new(),
        own: None,
    }
}

macro_rules! numbers {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            self.visit_number(visitor)
        }
    )*};
}

impl<'de> Deserializer<'de> for Node<'de> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        // Who asks for anything takes a table as it is: dotted keys.
        match self.own.map(|leaf| &leaf.value) {
            None | Some(Raw::Empty) => self.visit_table(visitor, Keys::flat),
            Some(_) => self.visit_scalar(visitor),
        }
    }

    numbers!(deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64
        deserialize_f32 deserialize_f64);

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.untyped()?.map(str::to_lowercase).as_deref() {
            Some("true" | "1" | "yes" | "on") => visitor.visit_bool(true),
            Some("false" | "0" | "no" | "off") => visitor.visit_bool(false),
            _ => self.visit_scalar(visitor),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let leaf = self.leaf()?;
        match &leaf.words {
            Some(words) => visitor.visit_seq(Items::new(words)),
            None => self.visit_scalar(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_some(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.visit_table(visitor, Keys::nested)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.visit_table(visitor, Keys::nested)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        if name == OPTIONS_NAME {
            self.visit_table(visitor, Keys::flat)
        } else {
            visitor.visit_newtype_struct(self)
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let Some(text) = self.text()? else {
            return Err(de::Error::custom("one of the names allowed here is needed"));
        };
        let variant: StrDeserializer<'_, Fault> = text.trim().into_deserializer();
        visitor.visit_enum(variant)
    }

    serde::forward_to_deserialize_any! {
        i128 u128 char str string bytes byte_buf unit unit_struct tuple
        tuple_struct identifier ignored_any
    }
}

/// The keys of a table: its next segments, or everything below it as dotted keys.
struct Keys<'de> {
    node: Node<'de>,
    names: std::vec::IntoIter<String>,
    current: String,
}

impl<'de> Keys<'de> {
    fn nested(node: Node<'de>) -> Self {
        let names = node.segments();
        Self::of(node, names)
    }

    fn flat(node: Node<'de>) -> Self {
        let names = node
            .below()
            .filter(|(_, leaf)| !matches!(leaf.value, Raw::Empty))
            .map(|(key, _)| key.to_owned())
            .collect();
        Self::of(node, names)
    }

    fn of(node: Node<'de>, names: Vec<String>) -> Self {
        Self {
            node,
            names: names.into_iter(),
            current: String::new(),
        }
    }
}

impl<'de> MapAccess<'de> for Keys<'de> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Fault> {
        let Some(name) = self.names.next() else {
            return Ok(None);
        };
        let key: StrDeserializer<'_, Fault> = name.as_str().into_deserializer();
        let result = seed
            .deserialize(key)
            .map(Some)
            // An unknown field is found here: the key is the fault itself.
            .map_err(|fault| fault.under(&name, self.node.child(&name).source()));
        self.current = name;
        result
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let child = self.node.child(&self.current);
        let source = child.source();
        seed.deserialize(child)
            .map_err(|fault| fault.under(&self.current, source))
    }
}

fn item(leaf: &Leaf) -> Node<'_> {
    static NONE: BTreeMap<String, Leaf> = BTreeMap::new();
    Node {
        leaves: &NONE,
        key: String::new(),
        own: Some(leaf),
    }
}

struct Items<'de>(std::iter::Enumerate<std::slice::Iter<'de, Leaf>>);

impl<'de> Items<'de> {
    fn new(items: &'de [Leaf]) -> Self {
        Self(items.iter().enumerate())
    }
}

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Fault> {
        let Some((index, leaf)) = self.0.next() else {
            return Ok(None);
        };
        seed.deserialize(item(leaf))
            .map(Some)
            .map_err(|fault| fault.under(&index.to_string(), Some(leaf)))
    }
}
