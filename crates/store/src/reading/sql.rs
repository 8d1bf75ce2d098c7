//! A statement while it is written, and the rows that come back, for both engines.

use super::{Campaigns, Page, Range};
use crate::StoreError;
use jiff::Timestamp;
use postern_core::ids::RequestId;

/// Of more campaigns than this a list isn't merged from one walk each.
const MERGED: usize = 50;

/// For which engine.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    Postgres,
    Sqlite,
}

/// A value of a statement.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Param {
    Integer(i64),
    Text(String),
    Time(Timestamp),
    Id(RequestId),
    Integers(Vec<i64>),
    Ids(Vec<RequestId>),
}

/// A statement with its values.
pub(crate) struct Sql {
    pub(crate) engine: Engine,
    pub(crate) text: String,
    pub(crate) params: Vec<Param>,
}

/// A row that came back.
pub(crate) trait Fields {
    fn integer(&self, index: usize) -> Result<i64, StoreError>;
    fn maybe_integer(&self, index: usize) -> Result<Option<i64>, StoreError>;
    fn text(&self, index: usize) -> Result<String, StoreError>;
    fn maybe_text(&self, index: usize) -> Result<Option<String>, StoreError>;
    fn time(&self, index: usize) -> Result<Timestamp, StoreError>;
    fn maybe_time(&self, index: usize) -> Result<Option<Timestamp>, StoreError>;
    fn id(&self, index: usize) -> Result<RequestId, StoreError>;
    fn maybe_id(&self, index: usize) -> Result<Option<RequestId>, StoreError>;
}

impl Sql {
    pub(crate) fn new(engine: Engine) -> Self {
        Self {
            engine,
            text: String::new(),
            params: Vec::new(),
        }
    }

    /// What stands for a value in the text.
    pub(super) fn param(&mut self, value: Param) -> String {
        self.params.push(value);
        let mark = match self.engine {
            Engine::Postgres => '$',
            Engine::Sqlite => '?',
        };
        format!("{mark}{}", self.params.len())
    }

    /// The one of two wordings that this engine understands.
    pub(super) fn word<'a>(&self, postgres: &'a str, sqlite: &'a str) -> &'a str {
        match self.engine {
            Engine::Postgres => postgres,
            Engine::Sqlite => sqlite,
        }
    }

    /// Whether `column` is one of a set.
    pub(super) fn one_of(&mut self, column: &str, set: Param) -> String {
        let param = self.param(set);
        match self.engine {
            Engine::Postgres => format!("{column} = ANY({param})"),
            Engine::Sqlite => format!("{column} IN (SELECT value FROM json_each({param}))"),
        }
    }

    /// Whether `column` has a text; the empty one stands for none.
    pub(super) fn text_is(&mut self, column: &str, text: &str) -> String {
        if text.is_empty() {
            return format!("coalesce({column}, '') = ''");
        }
        let param = self.param(Param::Text(text.to_owned()));
        format!("{column} = {param}")
    }

    /// Whether `column` lies in a range of time.
    pub(super) fn in_range(&mut self, column: &str, range: Range, conditions: &mut Vec<String>) {
        if let Some(from) = range.from {
            let param = self.param(Param::Time(from));
            conditions.push(format!("{column} >= {param}"));
        }
        if let Some(to) = range.to {
            let param = self.param(Param::Time(to));
            conditions.push(format!("{column} < {param}"));
        }
    }

    /// How a list of these campaigns is put together: a condition for each walk through it.
    /// A walk of one campaign goes along that campaign's index.
    /// Where `few` are asked for, such as those of a click, they are found by that instead: with a
    /// sign in front neither engine looks the column up.
    pub(super) fn walks(
        &mut self,
        column: &str,
        campaigns: &Campaigns,
        few: bool,
    ) -> Vec<Option<String>> {
        match campaigns {
            Campaigns::All => vec![None],
            Campaigns::Only(ids) if few => {
                let column = format!("+{column}");
                vec![Some(self.one_of(&column, Param::Integers(ids.clone())))]
            }
            Campaigns::Only(ids) if ids.len() <= MERGED => ids
                .iter()
                .map(|id| Some(format!("{column} = {}", self.param(Param::Integer(*id)))))
                .collect(),
            Campaigns::Only(ids) => {
                vec![Some(self.one_of(column, Param::Integers(ids.clone())))]
            }
        }
    }

    /// The newest rows of several walks together, ordered by the columns `time` and `id`, which
    /// each walk names in the same way.
    pub(super) fn newest(&mut self, walks: &[Walk], (time, id): (&str, &str), page: Page) {
        let limit = self.param(Param::Integer(page.limit));
        let after = page.after.map(|(at, last)| {
            let at = self.param(Param::Time(at));
            (at, self.param(Param::Id(last)))
        });
        let mut parts = Vec::with_capacity(walks.len());
        for (number, walk) in walks.iter().enumerate() {
            // By the walked table's own columns: it goes along an index.
            let (time, id) = (
                format!("{}.{time}", walk.table),
                format!("{}.{id}", walk.table),
            );
            let mut conditions = walk.conditions.clone();
            if let Some((at, last)) = &after {
                conditions.push(format!("({time}, {id}) < ({at}, {last})"));
            }
            parts.push(format!(
                "SELECT * FROM ({}{} ORDER BY {time} DESC, {id} DESC LIMIT {limit}) AS w{number}",
                walk.select,
                filter(&conditions)
            ));
        }
        self.text = parts.join(" UNION ALL ");
        if parts.len() > 1 {
            let order = format!(" ORDER BY {time} DESC, {id} DESC LIMIT {limit}");
            self.text.push_str(&order);
        }
    }
}

/// A walk through a list: `SELECT … FROM …`, the table that it goes along, and its conditions.
pub(super) struct Walk {
    pub(super) select: String,
    pub(super) table: &'static str,
    pub(super) conditions: Vec<String>,
}

/// Conditions that must all hold, as a clause.
pub(super) fn filter(conditions: &[String]) -> String {
    match conditions.is_empty() {
        true => String::new(),
        false => format!(" WHERE {}", conditions.join(" AND ")),
    }
}
