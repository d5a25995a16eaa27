//! This module converts values between Rust and SQL.

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

/// Holds the SQL value of a statement parameter or of a column.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(missing_docs)]
pub enum SqlValue<'a> {
    Null,
    Int(i64),
    Text(&'a str),
    Blob(&'a [u8]),
}

/// Represents a row that the database returns for a query.
pub trait Row {
    /// Returns the value of the column with the index `at`. The first column has the index 0. Fails if the column does
    /// not exist or holds a value that `SqlValue` can't represent.
    fn value(&self, at: usize) -> Result<SqlValue<'_>>;
}

/// Reads the columns of a row in the order in which the statement lists the columns.
pub struct Columns<'a> {
    row: &'a dyn Row,
    at: usize,
    bytes: usize,
}

impl<'a> Columns<'a> {
    /// Creates a reader that starts at the first column of a row.
    pub fn new(row: &'a dyn Row) -> Self {
        Self { row, at: 0, bytes: 0 }
    }

    /// Returns the value of the next column as `T`. Fails if the value can't be converted to `T`.
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

    /// Returns the total size in bytes of the columns that `take` has read. An integer or NULL counts as 8 bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Converts SQL values of columns to the Rust type that implements this trait.
pub trait FromColumn: Sized {
    /// Converts the SQL value of a column to this Rust type. Fails if the value can't be converted.
    fn from_column(value: SqlValue) -> Result<Self>;
}

/// Converts values of the Rust type that implements this trait to statement parameters.
pub trait AsParam {
    /// Returns `self` as a statement parameter.
    fn as_param(&self) -> SqlValue<'_>;
}

fn refuse_unexpected_value<T>(value: SqlValue, wanted: &str) -> Result<T> {
    Err(Error::internal(format!(
        "the database returned the value {value:?}, but the server expects {wanted}: report the bug"
    )))
}

impl FromColumn for i64 {
    fn from_column(value: SqlValue) -> Result<Self> {
        match value {
            SqlValue::Int(number) => Ok(number),
            other => refuse_unexpected_value(other, "a number"),
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
            other => refuse_unexpected_value(other, "text"),
        }
    }
}

impl FromColumn for Vec<u8> {
    fn from_column(value: SqlValue) -> Result<Self> {
        match value {
            SqlValue::Blob(blob) => Ok(blob.to_owned()),
            other => refuse_unexpected_value(other, "bytes"),
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
            other => refuse_unexpected_value(other, "a JSON list"),
        }
    }
}

impl FromColumn for Labels {
    fn from_column(value: SqlValue) -> Result<Self> {
        match value {
            SqlValue::Text("{}") => Ok(Self::new()),
            SqlValue::Text(text) => serde_json::from_str(text).map_err(Error::internal),
            other => refuse_unexpected_value(other, "a JSON object"),
        }
    }
}

/// Returns the JSON text that a column stores for a value. Fails if the value can't be converted to JSON.
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

/// The database stores durations in microseconds.
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
                    None => refuse_unexpected_value(value, stringify!($name)),
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
