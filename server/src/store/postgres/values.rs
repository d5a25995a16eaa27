//! This module converts values between the store and PostgreSQL.

use bytes::BytesMut;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

use crate::error::{Error, Result};
use crate::store::{Row, SqlValue};

pub(super) type BoxedError = Box<dyn std::error::Error + Sync + Send>;

/// A parameter of a statement that is sent before the caller waits for it, so the parameter outlives the caller's value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum OwnedValue {
    Null,
    Int(i64),
    Text(String),
    Blob(Vec<u8>),
}

impl From<&SqlValue<'_>> for OwnedValue {
    fn from(value: &SqlValue) -> Self {
        match value {
            SqlValue::Null => Self::Null,
            SqlValue::Int(number) => Self::Int(*number),
            SqlValue::Text(text) => Self::Text((*text).to_owned()),
            SqlValue::Blob(blob) => Self::Blob(blob.to_vec()),
        }
    }
}

impl OwnedValue {
    /// Returns the approximate size of the value, in bytes.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Null | Self::Int(_) => 8,
            Self::Text(text) => text.len(),
            Self::Blob(blob) => blob.len(),
        }
    }

    fn as_value(&self) -> SqlValue<'_> {
        match self {
            Self::Null => SqlValue::Null,
            Self::Int(number) => SqlValue::Int(*number),
            Self::Text(text) => SqlValue::Text(text),
            Self::Blob(blob) => SqlValue::Blob(blob),
        }
    }
}

/// Encodes a parameter. Fails if the value does not have the type that PostgreSQL expects.
impl ToSql for SqlValue<'_> {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, BoxedError> {
        match self {
            SqlValue::Null => Ok(IsNull::Yes),
            SqlValue::Int(number) if *ty == Type::INT8 => number.to_sql(ty, out),
            SqlValue::Text(text) if *ty == Type::TEXT => text.to_sql(ty, out),
            SqlValue::Blob(blob) if *ty == Type::BYTEA => blob.to_sql(ty, out),
            other => Err(format!("the value {other:?} does not have the type {ty}").into()),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

impl ToSql for OwnedValue {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, BoxedError> {
        self.as_value().to_sql(ty, out)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for SqlValue<'a> {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, BoxedError> {
        match *ty {
            Type::INT8 => i64::from_sql(ty, raw).map(SqlValue::Int),
            Type::INT4 => i32::from_sql(ty, raw).map(|number| SqlValue::Int(number.into())),
            Type::TEXT => <&str>::from_sql(ty, raw).map(SqlValue::Text),
            Type::BYTEA => <&[u8]>::from_sql(ty, raw).map(SqlValue::Blob),
            _ => Err(format!("the server can't read a column of the type {ty}").into()),
        }
    }

    fn from_sql_null(_: &Type) -> Result<Self, BoxedError> {
        Ok(SqlValue::Null)
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

impl Row for tokio_postgres::Row {
    fn value(&self, at: usize) -> Result<SqlValue<'_>> {
        self.try_get(at).map_err(Error::internal)
    }
}
