//! This module reads the fields of a JSON object in a ledger. Each error and each repair names the line and the field.

use serde_json::{Map, Value};

use super::repairs::Repairs;
use crate::error::{Error, Result};

/// Contains the fields of a JSON object that the import has not read yet.
pub struct Fields<'a> {
    line: usize,
    /// The path of the object in its line, for example `dependencies[2].`, or an empty text for the whole line.
    path: String,
    /// The path without the index, by which repairs are grouped.
    group: &'static str,
    map: Map<String, Value>,
    repairs: &'a mut Repairs,
}

impl<'a> Fields<'a> {
    /// Returns the fields of a whole line.
    pub fn of_line(line: usize, map: Map<String, Value>, repairs: &'a mut Repairs) -> Self {
        Self { line, path: String::new(), group: "", map, repairs }
    }

    /// Returns the name of a field for errors, for example `line 3: dependencies[0].type`.
    pub fn name(&self, field: &str) -> String {
        format!("line {}: {}{field}", self.line, self.path)
    }

    /// Records a repair of a field.
    pub fn repair(&mut self, field: &str, repair: &'static str) {
        self.repairs.add(self.line, &format!("{}{field}", self.group), repair);
    }

    /// Returns the value of a field, or None if the object does not contain the field. A null value counts as no value.
    fn take(&mut self, field: &str) -> Option<Value> {
        let value = self.map.remove(field)?;
        if value.is_null() {
            self.repair(field, "read null as no value");
            return None;
        }
        Some(value)
    }

    fn type_error(&self, field: &str, expected: &str, value: &Value) -> Error {
        let problem = format!("the value must be {expected}, but is {}: correct the value", describe_type(value));
        Error::field(self.name(field), problem)
    }

    /// Returns a text, or None if the object does not contain the field. Fails if the value is not a text.
    pub fn optional_text(&mut self, field: &str) -> Result<Option<String>> {
        match self.take(field) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.type_error(field, "a text", &other)),
        }
    }

    /// Returns a text, or an empty text if the object does not contain the field. Fails if the value is not a text.
    pub fn text(&mut self, field: &str) -> Result<String> {
        self.optional_text(field).map(Option::unwrap_or_default)
    }

    /// Returns the id of another issue, or None if the field contains no id. If a line of a log or blanks follow the
    /// id, the id is the first line of the text. Fails if the value is not a text.
    pub fn optional_id(&mut self, field: &str) -> Result<Option<String>> {
        let Some(text) = self.optional_text(field)? else { return Ok(None) };
        let trimmed = text.trim();
        match trimmed.lines().next().map(str::trim_end) {
            None => Ok(None),
            Some(first) if first == text => Ok(Some(text)),
            Some(first) if first == trimmed => {
                self.repair(field, "removed the blanks around the id");
                Ok(Some(first.to_owned()))
            }
            // An id contains no blanks. If the first line contains blanks, the line is no id either.
            Some(first) if first.contains(char::is_whitespace) => Ok(Some(text)),
            Some(first) => {
                self.repair(field, "removed the lines after the id");
                Ok(Some(first.to_owned()))
            }
        }
    }

    /// Returns an integer, or None if the object does not contain the field. Fails if the value is not an integer.
    pub fn optional_integer(&mut self, field: &str) -> Result<Option<i64>> {
        let Some(value) = self.take(field) else { return Ok(None) };
        value.as_i64().map(Some).ok_or_else(|| self.type_error(field, "an integer", &value))
    }

    /// Returns a boolean, or false if the object does not contain the field. Databases export booleans as 0 and 1.
    /// Fails if the value is neither a boolean nor 0 or 1.
    pub fn flag(&mut self, field: &str) -> Result<bool> {
        match self.take(field) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(Value::Number(number)) if matches!(number.as_u64(), Some(0 | 1)) => Ok(number.as_u64() == Some(1)),
            Some(other) => Err(self.type_error(field, "true or false", &other)),
        }
    }

    /// Returns the entries of a list with their indexes, without null entries. Fails if the value is not a list.
    fn entries(&mut self, field: &str) -> Result<Vec<(usize, Value)>> {
        let entries = match self.take(field) {
            None => return Ok(Vec::new()),
            Some(Value::Array(entries)) => entries,
            Some(other) => return Err(self.type_error(field, "a list", &other)),
        };
        let count = entries.len();
        let entries: Vec<_> = entries.into_iter().enumerate().filter(|(_, entry)| !entry.is_null()).collect();
        if entries.len() < count {
            self.repair(field, "left out null entries");
        }
        Ok(entries)
    }

    /// Returns a list of texts. Fails if the value is not a list, or if an entry is not a text.
    pub fn texts(&mut self, field: &str) -> Result<Vec<String>> {
        let entries = self.entries(field)?.into_iter();
        let texts = entries.map(|(at, entry)| match entry {
            Value::String(text) => Ok(text),
            other => Err(self.type_error(&format!("{field}[{at}]"), "a text", &other)),
        });
        texts.collect()
    }

    /// Returns the result of `parse` for each object in the list `dependencies`. Fails if the value is not a list, an
    /// entry is not an object, or `parse` fails.
    pub fn dependencies<T>(&mut self, parse: impl Fn(&mut Fields) -> Result<T>) -> Result<Vec<T>> {
        let mut parsed = Vec::new();
        for (at, entry) in self.entries("dependencies")? {
            let Value::Object(map) = entry else {
                return Err(self.type_error(&format!("dependencies[{at}]"), "an object", &entry));
            };
            let path = format!("dependencies[{at}].");
            let mut fields = Fields { line: self.line, path, group: "dependencies.", map, repairs: &mut *self.repairs };
            parsed.push(parse(&mut fields)?);
            fields.finish();
        }
        Ok(parsed)
    }

    /// Returns the names of the fields that the import has not read, without the fields that are null.
    pub fn finish(&mut self) -> Vec<String> {
        let names: Vec<String> = self.map.keys().cloned().collect();
        names.into_iter().filter(|name| self.take(name).is_some()).collect()
    }
}

fn describe_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
