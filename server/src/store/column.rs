//! Conversion of values between Rust and SQL.

use std::time::Duration;

use super::Result;
use crate::domain::Labels;
use crate::domain::approval::{ApprovalVerdict, ExpiryPolicy};
use crate::domain::attempt::AttemptStatus;
use crate::domain::json::Json;
use crate::domain::run::RunStatus;
use crate::domain::task::TaskStatus;
use crate::domain::time::Timestamp;
use crate::error::Error;

/// The value of a parameter or a column.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(missing_docs)]
pub enum SqlValue<'a> {
    Null,
    Int(i64),
    Text(&'a str),
    Blob(&'a [u8]),
}

/// A row of a query, as the database returns it.
pub trait Row {
    /// Returns the value of a column, counted from 0.
    fn value(&self, at: usize) -> Result<SqlValue<'_>>;
}

/// The columns of a row, taken one after the other in the order of the SELECT.
pub struct Columns<'a> {
    row: &'a dyn Row,
    at: usize,
    bytes: usize,
}

impl<'a> Columns<'a> {
    /// Begins at the first column of a row.
    pub fn new(row: &'a dyn Row) -> Self {
        Self { row, at: 0, bytes: 0 }
    }

    /// Takes the next column. Fails if its value has another type.
    pub fn take<T: FromColumn>(&mut self) -> Result<T> {
        let value = self.row.value(self.at)?;
        self.at += 1;
        self.bytes += match value {
            SqlValue::Text(text) => text.len(),
            SqlValue::Blob(blob) => blob.len(),
            SqlValue::Null | SqlValue::Int(_) => 8,
        };
        T::from_column(value)
    }

    /// Returns the size in bytes of the columns taken so far.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// A type that a column can be converted to.
pub trait FromColumn: Sized {
    /// Converts the value of a column. Fails if it has another type.
    fn from_column(value: SqlValue) -> Result<Self>;
}

/// A type that can be bound to a parameter.
pub trait AsParam {
    /// Returns the value for the database.
    fn as_param(&self) -> SqlValue<'_>;
}

fn unexpected<T>(value: SqlValue, wanted: &str) -> Result<T> {
    Err(Error::internal(format!("a column holds {value:?}, not {wanted}")))
}

impl FromColumn for i64 {
    fn from_column(value: SqlValue) -> Result<Self> {
        match value {
            SqlValue::Int(number) => Ok(number),
            other => unexpected(other, "a number"),
        }
    }
}

impl FromColumn for i32 {
    fn from_column(value: SqlValue) -> Result<Self> {
        Self::try_from(i64::from_column(value)?).map_err(Error::internal)
    }
}

impl FromColumn for String {
    fn from_column(value: SqlValue) -> Result<Self> {
        match value {
            SqlValue::Text(text) => Ok(text.to_owned()),
            other => unexpected(other, "text"),
        }
    }
}

impl FromColumn for Vec<u8> {
    fn from_column(value: SqlValue) -> Result<Self> {
        match value {
            SqlValue::Blob(blob) => Ok(blob.to_owned()),
            other => unexpected(other, "bytes"),
        }
    }
}

impl<T: FromColumn> FromColumn for Option<T> {
    fn from_column(value: SqlValue) -> Result<Self> {
        match value {
            SqlValue::Null => Ok(None),
            other => T::from_column(other).map(Some),
        }
    }
}

impl FromColumn for Timestamp {
    fn from_column(value: SqlValue) -> Result<Self> {
        i64::from_column(value).map(Self::from_micros)
    }
}

impl FromColumn for Json {
    fn from_column(value: SqlValue) -> Result<Self> {
        String::from_column(value).map(Self::from_text)
    }
}

impl FromColumn for Vec<String> {
    fn from_column(value: SqlValue) -> Result<Self> {
        match value {
            SqlValue::Text("[]") => Ok(Self::new()),
            SqlValue::Text(text) => serde_json::from_str(text).map_err(Error::internal),
            other => unexpected(other, "a JSON list"),
        }
    }
}

impl FromColumn for Labels {
    fn from_column(value: SqlValue) -> Result<Self> {
        match value {
            SqlValue::Text("{}") => Ok(Self::new()),
            SqlValue::Text(text) => serde_json::from_str(text).map_err(Error::internal),
            other => unexpected(other, "a JSON object"),
        }
    }
}

/// Returns the JSON text of a list or object of strings, as its column holds it.
pub fn json_text(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(Error::internal)
}

impl AsParam for i64 {
    fn as_param(&self) -> SqlValue<'_> {
        SqlValue::Int(*self)
    }
}

impl AsParam for i32 {
    fn as_param(&self) -> SqlValue<'_> {
        SqlValue::Int(i64::from(*self))
    }
}

impl AsParam for str {
    fn as_param(&self) -> SqlValue<'_> {
        SqlValue::Text(self)
    }
}

impl AsParam for String {
    fn as_param(&self) -> SqlValue<'_> {
        SqlValue::Text(self)
    }
}

impl AsParam for [u8] {
    fn as_param(&self) -> SqlValue<'_> {
        SqlValue::Blob(self)
    }
}

impl AsParam for Vec<u8> {
    fn as_param(&self) -> SqlValue<'_> {
        SqlValue::Blob(self)
    }
}

impl AsParam for Timestamp {
    fn as_param(&self) -> SqlValue<'_> {
        SqlValue::Int(self.micros())
    }
}

/// Durations are stored in microseconds.
impl FromColumn for Duration {
    fn from_column(value: SqlValue) -> Result<Self> {
        u64::try_from(i64::from_column(value)?).map(Self::from_micros).map_err(Error::internal)
    }
}

impl AsParam for Duration {
    fn as_param(&self) -> SqlValue<'_> {
        SqlValue::Int(i64::try_from(self.as_micros()).unwrap_or(i64::MAX))
    }
}

impl AsParam for bool {
    fn as_param(&self) -> SqlValue<'_> {
        SqlValue::Int(i64::from(*self))
    }
}

impl FromColumn for bool {
    fn from_column(value: SqlValue) -> Result<Self> {
        Ok(i64::from_column(value)? != 0)
    }
}

impl AsParam for Json {
    fn as_param(&self) -> SqlValue<'_> {
        SqlValue::Text(self.text())
    }
}

impl<T: AsParam> AsParam for Option<T> {
    fn as_param(&self) -> SqlValue<'_> {
        self.as_ref().map_or(SqlValue::Null, AsParam::as_param)
    }
}

impl<T: AsParam + ?Sized> AsParam for &T {
    fn as_param(&self) -> SqlValue<'_> {
        (**self).as_param()
    }
}

macro_rules! enum_columns {
    ($($name:ident),+) => {$(
        impl FromColumn for $name {
            fn from_column(value: SqlValue) -> Result<Self> {
                match Self::from_code(i64::from_column(value)?) {
                    Some(known) => Ok(known),
                    None => unexpected(value, stringify!($name)),
                }
            }
        }

        impl AsParam for $name {
            fn as_param(&self) -> SqlValue<'_> {
                SqlValue::Int(i64::from(self.code()))
            }
        }
    )+};
}

enum_columns!(RunStatus, TaskStatus, AttemptStatus, ApprovalVerdict, ExpiryPolicy);
