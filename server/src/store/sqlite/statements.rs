//! This module prepares SQL statements and binds their parameters.

use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

use rusqlite::{Connection, PrepFlags, Statement};

use super::sql_error;
use crate::error::{Error, Result};
use crate::store::SqlValue;

/// Runs a prepared statement whose parameters are bound.
pub(super) type Run<'a> = &'a mut dyn FnMut(&mut Statement<'_>) -> Result<()>;

/// Prepares the statements of a connection.
pub(super) trait Statements {
    /// Prepares a statement, binds the parameters `$1`, `$2` … to `params`, and passes the statement to `run`. Fails if
    /// the statement is invalid, if the number of values differs from the number of parameters, or if `run` fails.
    fn run_prepared(&self, sql: &'static str, params: &[SqlValue], run: Run) -> Result<()>;
}

/// A connection caches its statements by their text.
impl Statements for Connection {
    fn run_prepared(&self, sql: &'static str, params: &[SqlValue], run: Run) -> Result<()> {
        let mut statement = self.prepare_cached(sql).map_err(sql_error)?;
        check_count(sql, statement.parameter_count(), params.len())?;
        for (name, value) in PARAMETERS.iter().zip(params) {
            let index = find_parameter(&statement, sql, name)?;
            statement.raw_bind_parameter(index, value).map_err(sql_error)?;
        }
        run(&mut statement)
    }
}

/// Keeps every statement of a connection. The key of a statement is the address and the length of its text: a
/// `&'static str` is never freed, so a key always means the same text. If the compiler stores one text at two
/// addresses, the text is prepared twice. A lookup by text would take a tenth of the writer's time.
pub(super) struct KeptStatements<'a> {
    conn: &'a Connection,
    kept: RefCell<HashMap<(usize, usize), KeptStatement<'a>>>,
}

struct KeptStatement<'a> {
    statement: Statement<'a>,
    /// The indexes of the parameters `$1`, `$2` …
    parameters: Vec<usize>,
}

impl<'a> KeptStatements<'a> {
    pub fn new(conn: &'a Connection) -> Self {
        Self { conn, kept: RefCell::default() }
    }

    fn prepare(&self, sql: &'static str) -> Result<KeptStatement<'a>> {
        // Without the flag, the kept statements would occupy SQLite's small pool for short-lived memory.
        let flags = PrepFlags::SQLITE_PREPARE_PERSISTENT;
        let statement = self.conn.prepare_with_flags(sql, flags).map_err(sql_error)?;
        let names = PARAMETERS.iter().take(statement.parameter_count());
        let parameters = names.map(|name| find_parameter(&statement, sql, name)).collect::<Result<_>>()?;
        Ok(KeptStatement { statement, parameters })
    }
}

impl Statements for KeptStatements<'_> {
    fn run_prepared(&self, sql: &'static str, params: &[SqlValue], run: Run) -> Result<()> {
        let mut kept = self.kept.borrow_mut();
        let KeptStatement { statement, parameters } = match kept.entry((sql.as_ptr() as usize, sql.len())) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(self.prepare(sql)?),
        };
        check_count(sql, parameters.len(), params.len())?;
        for (index, value) in parameters.iter().zip(params) {
            statement.raw_bind_parameter(*index, value).map_err(sql_error)?;
        }
        let result = run(statement);
        // SQLite copies bound values. Drop the copies, which can take megabytes.
        statement.clear_bindings();
        result
    }
}

fn check_count(sql: &str, parameters: usize, values: usize) -> Result<()> {
    if parameters == values {
        return Ok(());
    }
    Err(Error::internal(format!(
        "the SQL statement `{sql}` has {parameters} parameters, but got {values} values: report the bug"
    )))
}

fn find_parameter(statement: &Statement<'_>, sql: &str, name: &str) -> Result<usize> {
    let index = statement.parameter_index(name).map_err(sql_error)?;
    index.ok_or_else(|| Error::internal(format!("the SQL statement `{sql}` has no parameter {name}: report the bug")))
}

/// Names of the statement parameters in the order of the bound values. SQLite treats `$1` as a name and not as a
/// number, so the store must find each parameter by name.
const PARAMETERS: [&str; 36] = [
    "$1", "$2", "$3", "$4", "$5", "$6", "$7", "$8", "$9", "$10", "$11", "$12", "$13", "$14", "$15", "$16", "$17",
    "$18", "$19", "$20", "$21", "$22", "$23", "$24", "$25", "$26", "$27", "$28", "$29", "$30", "$31", "$32", "$33",
    "$34", "$35", "$36",
];

#[cfg(test)]
mod tests {
    use super::*;

    const SQL: &str = "SELECT $2 - $1";

    fn subtract(statements: &dyn Statements, params: &[SqlValue]) -> Result<i64> {
        let mut difference = None;
        statements.run_prepared(SQL, params, &mut |statement| {
            let mut rows = statement.raw_query();
            let row = rows.next().map_err(sql_error)?.ok_or_else(|| Error::internal("no row"))?;
            difference = row.get(0).map_err(sql_error)?;
            Ok(())
        })?;
        difference.ok_or_else(|| Error::internal("NULL"))
    }

    #[test]
    fn parameters_are_bound_by_name_each_time() {
        let conn = Connection::open_in_memory().unwrap();
        let kept = KeptStatements::new(&conn);
        for statements in [&conn as &dyn Statements, &kept] {
            assert_eq!(subtract(statements, &[SqlValue::Int(1), SqlValue::Int(3)]), Ok(2));
            assert_eq!(subtract(statements, &[SqlValue::Int(5), SqlValue::Int(9)]), Ok(4));
        }
        assert_eq!(kept.kept.borrow().len(), 1);
    }

    #[test]
    fn wrong_number_of_values_is_an_error() {
        let conn = Connection::open_in_memory().unwrap();
        let kept = KeptStatements::new(&conn);
        for statements in [&conn as &dyn Statements, &kept] {
            let error = subtract(statements, &[SqlValue::Int(1)]).unwrap_err();
            assert!(format!("{error:?}").contains("has 2 parameters, but got 1 values"), "{error:?}");
        }
    }

    #[test]
    fn bound_values_are_dropped_after_each_run() {
        let conn = Connection::open_in_memory().unwrap();
        let kept = KeptStatements::new(&conn);
        assert_eq!(subtract(&kept, &[SqlValue::Int(1), SqlValue::Int(3)]), Ok(2));
        let kept = kept.kept.borrow();
        let texts: Vec<_> = kept.values().map(|kept| kept.statement.expanded_sql().unwrap()).collect();
        assert_eq!(texts, ["SELECT NULL - NULL"]);
    }

    /// A statement that failed, or whose rows were not all read, can run again.
    #[test]
    fn statement_can_run_again_after_a_failure() {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch("CREATE TABLE numbers (number INTEGER PRIMARY KEY); INSERT INTO numbers VALUES (1), (2)")
            .unwrap();
        let kept = KeptStatements::new(&conn);
        let insert = |number| {
            let run: Run = &mut |statement| statement.raw_execute().map(drop).map_err(sql_error);
            kept.run_prepared("INSERT INTO numbers VALUES ($1)", &[SqlValue::Int(number)], run)
        };
        assert!(insert(1).is_err());
        assert_eq!(insert(3), Ok(()));
        let read_first = || {
            let mut first = None;
            let run: Run = &mut |statement| {
                let mut rows = statement.raw_query();
                first = rows.next().unwrap().map(|row| row.get::<_, i64>(0).unwrap());
                Ok(())
            };
            kept.run_prepared("SELECT number FROM numbers ORDER BY number", &[], run).unwrap();
            first
        };
        assert_eq!((read_first(), read_first()), (Some(1), Some(1)));
    }
}
