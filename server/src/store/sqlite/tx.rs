//! This module runs the statements of a transaction body on an SQLite connection, and converts values between the store
//! and SQLite.

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Statement, ToSql};

use super::sql_error;
use super::statements::Statements;
use crate::error::{Error, Result};
use crate::store::body_tx::{BodyTx, RunStatements};
use crate::store::{Columns, Row, RowHandler, SqlValue};

/// Represents the open transaction of an SQLite connection.
pub(super) type SqliteTx<'a> = BodyTx<'a, &'a dyn Statements>;

impl RunStatements for &dyn Statements {
    fn execute(&mut self, sql: &'static str, params: &[SqlValue], has_written: &mut bool) -> Result<u64> {
        let mut changed = 0;
        self.run_prepared(sql, params, &mut |statement| {
            changed = statement.raw_execute().map_err(sql_error)?;
            Ok(())
        })?;
        *has_written |= changed > 0;
        Ok(changed as u64)
    }

    fn query(
        &mut self,
        sql: &'static str,
        params: &[SqlValue],
        has_written: &mut bool,
        handler: RowHandler,
    ) -> Result<()> {
        self.run_prepared(sql, params, &mut |statement| {
            // An UPDATE … RETURNING statement runs as a query but changes rows, so a query that is not read-only counts
            // as a write.
            *has_written |= !statement.readonly();
            let mut rows = statement.raw_query();
            while let Some(row) = rows.next().map_err(sql_error)? {
                if handler(&mut Columns::new(row))?.is_break() {
                    break;
                }
            }
            Ok(())
        })
    }
}

impl Row for rusqlite::Row<'_> {
    fn value(&self, at: usize) -> Result<SqlValue<'_>> {
        match self.get_ref(at).map_err(sql_error)? {
            ValueRef::Null => Ok(SqlValue::Null),
            ValueRef::Integer(number) => Ok(SqlValue::Int(number)),
            ValueRef::Text(text) => std::str::from_utf8(text).map(SqlValue::Text).map_err(Error::internal),
            ValueRef::Blob(blob) => Ok(SqlValue::Blob(blob)),
            ValueRef::Real(number) => {
                let statement: &Statement<'_> = self.as_ref();
                let name = statement.column_name(at).map_err(sql_error)?;
                Err(Error::internal(format!(
                    "column `{name}` holds the floating-point number {number} instead of an integer: report the bug"
                )))
            }
        }
    }
}

impl ToSql for SqlValue<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            SqlValue::Null => ValueRef::Null,
            SqlValue::Int(number) => ValueRef::Integer(*number),
            SqlValue::Text(text) => ValueRef::Text(text.as_bytes()),
            SqlValue::Blob(blob) => ValueRef::Blob(blob),
        }))
    }
}
