//! The macro `table!` generates the statements and the row mapping of a table from one declaration of the table's
//! columns.

/// Declares the columns of a table and generates the statements of the table.
///
/// This example declares the table `artifacts`:
/// ```text
/// table! {
///     artifacts a, artifact: Artifact;           // The table, its alias, and the name and type of a row.
///     fixed { key, id, role, kind, path = artifact.path.trim() }
///     saved { revision }
///     given { run_key: Key, task_key: Option<Key> }
///     joined "JOIN runs r ON r.key = a.run_key" { run_id: "r.id" }
/// }
/// ```
///
/// A declaration has these sections, of which only `fixed` is required:
/// - `fixed` columns are written by the insert and never change.
/// - `saved` columns are written by the insert and by each save. If the declaration contains
///   `saved on (a, b)` and a row with equal `a` and `b` exists, the insert replaces the `saved` columns of the row.
/// - `given` columns are arguments of the insert and not part of the row.
/// - `joined` fields are read from other tables and never written.
///
/// By default, a column stores the row's field with the name of the column. If the declaration contains a value, as in
/// `path = artifact.path.trim()`, the column stores this value instead.
///
/// The macro generates these items with static SQL:
/// - `select!("WHERE …")` expands to the query for whole rows with the clauses in the argument.
/// - `read_row(columns)` maps a row of the query to the row type. The fields of the row type are the `joined`, `fixed`
///   and `saved` columns. The optional last section `read { … }` defines the fields as expressions of the columns.
///   With `read by hand`, the macro generates no mapping, and the columns have the order `joined`, `fixed`, `saved`.
/// - `insert_row(tx, given…, row)` inserts a row.
/// - `save_row(tx, row)` updates the `saved` columns of the row that has the key of `row`. The macro generates this
///   function only for a table with `saved` columns and without `saved on`.
macro_rules! table {
    (
        $table:ident $alias:ident, $row:ident: $Row:ident;
        fixed { $($fixed:tt)* }
        $(saved $(on ($($unique:ident),+))? { $($saved:tt)* })?
        $(given { $($given:tt)* })?
        $(joined $join:literal { $($joined:tt)* })?
        $(read $($by:ident)+;)?
        $(read { $($read:tt)* })?
    ) => {
        $crate::store::table::statements! {
            $table $alias $row $Row
            fixed { $($fixed)* }
            saved [$($($($unique)+)?)?] { $($($saved)*)? }
            given { $($($given)*)? }
            joined { $($join; $($joined)*)? }
        }
        $crate::store::table::row_mapping! {
            $Row
            fixed { $($fixed)* }
            saved { $($($saved)*)? }
            joined { $($($joined)*)? }
            read { $($($by)+)? $($($read)*)? }
        }
    };
}
pub(super) use table;

/// Generates the statements of a table. All sections must be present, but a section may be empty.
macro_rules! statements {
    (
        $table:ident $alias:ident $row:ident $Row:ident
        fixed { $first:ident $(= $first_value:expr)? $(, $fixed:ident $(= $fixed_value:expr)?)* $(,)? }
        saved [$($unique:ident)*] { $($saved:ident $(= $saved_value:expr)?),* $(,)? }
        given { $($given:ident: $Given:ty),* $(,)? }
        joined { $($join:literal; $($field:ident: $sql:literal),* $(,)?)? }
    ) => {
        macro_rules! columns {
            () => {
                concat!(
                    "SELECT ", $($($sql, ", ",)*)?
                    stringify!($alias), ".", stringify!($first),
                    $(", ", stringify!($alias), ".", stringify!($fixed),)*
                    $(", ", stringify!($alias), ".", stringify!($saved),)*
                )
            };
        }

        macro_rules! from {
            () => {
                concat!(" FROM ", stringify!($table), " ", stringify!($alias), " ", $($join, " ",)?)
            };
        }

        fn insert_row(tx: &mut dyn $crate::store::Tx, $($given: $Given,)* $row: &$Row) -> $crate::error::Result<()> {
            const SQL: &str = concat!(
                "INSERT INTO ", stringify!($table), " (", stringify!($first),
                $(", ", stringify!($fixed),)* $(", ", stringify!($saved),)* $(", ", stringify!($given),)*
                ") VALUES (", $crate::store::table::placeholders!($first $($fixed)* $($saved)* $($given)*), ")",
                $crate::store::table::on_conflict!([$($unique)*] $($saved)*),
            );
            tx.write(SQL, $crate::store::params![
                $crate::store::table::value!($row.$first $(= $first_value)?),
                $($crate::store::table::value!($row.$fixed $(= $fixed_value)?),)*
                $($crate::store::table::value!($row.$saved $(= $saved_value)?),)*
                $($given,)*
            ])
        }

        $crate::store::table::save_row! {
            $table $row $Row [$($unique)*] { $($saved $(= $saved_value)?,)* }
        }
    };
}
pub(super) use statements;

/// Generates the function `save_row`. If the table has no `saved` columns, or if the insert replaces the `saved`
/// columns, the macro generates nothing.
macro_rules! save_row {
    ($table:ident $row:ident $Row:ident [$($unique:ident)*] {}) => {};
    ($table:ident $row:ident $Row:ident [$($unique:ident)+] { $($saved:tt)+ }) => {};
    ($table:ident $row:ident $Row:ident [] { $($saved:ident $(= $value:expr)?,)+ }) => {
        fn save_row(tx: &mut dyn $crate::store::Tx, $row: &$Row) -> $crate::error::Result<()> {
            const SQL: &str = concat!(
                "UPDATE ", stringify!($table), " SET ",
                $crate::store::table::assignments!($($saved)+), " WHERE key = $1",
            );
            tx.write(SQL, $crate::store::params![
                $row.key,
                $($crate::store::table::value!($row.$saved $(= $value)?),)+
            ])
        }
    };
}
pub(super) use save_row;

/// Generates the function `read_row`. If the declaration contains `read by hand`, the macro generates nothing.
macro_rules! row_mapping {
    ($Row:ident fixed { $($fixed:tt)* } saved { $($saved:tt)* } joined { $($joined:tt)* } read { by hand }) => {};
    (
        $Row:ident
        fixed { $($fixed:ident $(= $fixed_value:expr)?),* $(,)? }
        saved { $($saved:ident $(= $saved_value:expr)?),* $(,)? }
        joined { $($field:ident: $sql:literal),* $(,)? }
        read {}
    ) => {
        fn read_row(columns: &mut $crate::store::Columns) -> $crate::error::Result<$Row> {
            Ok($Row {
                $($field: columns.take()?,)*
                $($fixed: columns.take()?,)*
                $($saved: columns.take()?,)*
            })
        }
    };
    (
        $Row:ident
        fixed { $($fixed:ident $(= $fixed_value:expr)?),* $(,)? }
        saved { $($saved:ident $(= $saved_value:expr)?),* $(,)? }
        joined { $($field:ident: $sql:literal),* $(,)? }
        read { $($read:tt)+ }
    ) => {
        fn read_row(columns: &mut $crate::store::Columns) -> $crate::error::Result<$Row> {
            $(let $field = columns.take()?;)*
            $(let $fixed = columns.take()?;)*
            $(let $saved = columns.take()?;)*
            Ok($Row { $($read)+ })
        }
    };
}
pub(super) use row_mapping;

/// Expands to the query for whole rows of the table that the current file declares. The arguments continue the query,
/// for example `select!("WHERE a.id = $1")`.
macro_rules! select {
    ($($rest:expr),+ $(,)?) => { concat!(columns!(), from!(), $($rest),+) };
}
pub(super) use select;

/// Expands to the query of `select!` with one more column at the end. The first argument is the column.
macro_rules! select_with {
    ($column:expr, $($rest:expr),+ $(,)?) => { concat!(columns!(), ", ", $column, from!(), $($rest),+) };
}
pub(super) use select_with;

/// Expands to the value of a column. If the declaration specifies no value, the value is the row's field with the name
/// of the column.
macro_rules! value {
    ($row:ident.$column:ident) => {
        $row.$column
    };
    ($row:ident.$column:ident = $value:expr) => {
        $value
    };
}
pub(super) use value;

/// Expands to the parameters `"$1, $2, …"`, one parameter for each column.
macro_rules! placeholders {
    ($first:ident $($column:ident)*) => {
        $crate::store::table::placeholders!(
            @ "$1"; $($column)*;
            2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32 33 34 35 36
        )
    };
    (@ $text:expr; ; $($number:literal)*) => { $text };
    (@ $text:expr; $column:ident $($columns:ident)*; $number:literal $($numbers:literal)*) => {
        $crate::store::table::placeholders!(@ concat!($text, ", $", $number); $($columns)*; $($numbers)*)
    };
}
pub(super) use placeholders;

/// Expands to the assignments `"a = $2, b = $3, …"` of an UPDATE statement, whose parameter `$1` is the key of the row.
macro_rules! assignments {
    ($first:ident $($column:ident)*) => {
        $crate::store::table::assignments!(
            @ concat!(stringify!($first), " = $2"); $($column)*; 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20
        )
    };
    (@ $text:expr; ; $($number:literal)*) => { $text };
    (@ $text:expr; $column:ident $($columns:ident)*; $number:literal $($numbers:literal)*) => {
        $crate::store::table::assignments!(
            @ concat!($text, ", ", stringify!($column), " = $", $number); $($columns)*; $($numbers)*
        )
    };
}
pub(super) use assignments;

/// Expands to the clause `" ON CONFLICT (a, b) DO UPDATE SET c = excluded.c, …"`. If no columns are declared as unique,
/// expands to an empty string.
macro_rules! on_conflict {
    ([] $($column:ident)*) => { "" };
    ([$first_unique:ident $($unique:ident)*] $first:ident $($column:ident)*) => {
        concat!(
            " ON CONFLICT (", stringify!($first_unique), $(", ", stringify!($unique),)* ") DO UPDATE SET ",
            stringify!($first), " = excluded.", stringify!($first),
            $(", ", stringify!($column), " = excluded.", stringify!($column),)*
        )
    };
}
pub(super) use on_conflict;

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use crate::domain::Key;
    use crate::domain::time::{ClockStep, Timestamp};
    use crate::error::Result;
    use crate::store::{ClaimVersion, Columns, RowHandler, Signal, SqlValue, Transaction, Tx, TxCache};

    struct Widget {
        key: Key,
        owner: String,
        name: String,
        size: i32,
    }

    mod saved {
        use super::*;

        table! {
            widgets w, widget: Widget;
            fixed { key, name = widget.name.as_str() }
            saved { size }
            given { owner_key: Key }
            joined "JOIN owners o ON o.key = w.owner_key" { owner: "o.name" }
        }

        pub const SELECT: &str = select!("WHERE ", 1);

        pub fn read(columns: &mut Columns) -> Result<Widget> {
            read_row(columns)
        }

        pub fn insert_and_save(tx: &mut dyn Tx, widget: &Widget) -> Result<()> {
            insert_row(tx, 7, widget)?;
            save_row(tx, widget)
        }
    }

    mod replaced {
        use super::*;

        table! {
            widgets w, widget: Widget;
            fixed { name }
            saved on (owner_key, name) { size, key }
            given { owner_key: Key }
            read by hand;
        }

        pub const SELECT: &str = select!("WHERE 2");

        pub fn insert(tx: &mut dyn Tx, widget: &Widget) -> Result<()> {
            insert_row(tx, 7, widget)
        }
    }

    /// Records the executed statements and their parameters.
    #[derive(Default)]
    struct Recorder(RefCell<Vec<String>>, TxCache);

    impl Tx for Recorder {
        fn now(&self) -> Timestamp {
            Timestamp::from_micros(0)
        }

        fn step_clock(&mut self, _step: ClockStep) -> Result<()> {
            Ok(())
        }

        fn new_id(&self) -> String {
            String::new()
        }

        fn new_token(&self) -> String {
            String::new()
        }

        fn next_key(&mut self) -> Result<Key> {
            Ok(1)
        }

        fn next_position(&mut self) -> Result<i64> {
            Ok(1)
        }

        fn next_claim_version(&mut self) -> Result<i64> {
            Ok(1)
        }

        fn claim_version(&mut self) -> Result<ClaimVersion> {
            Ok(ClaimVersion { number: 1, rollbacks: 0 })
        }

        fn transaction(&self) -> Transaction {
            Transaction::default()
        }

        fn cache(&mut self) -> &mut TxCache {
            &mut self.1
        }

        fn signal(&mut self, _: Signal) {}

        fn has_written(&self) -> bool {
            false
        }

        fn execute(&mut self, sql: &'static str, params: &[SqlValue]) -> Result<u64> {
            self.0.borrow_mut().push(format!("{sql}; {params:?}"));
            Ok(1)
        }

        fn query(&mut self, _: &'static str, _: &[SqlValue], _: RowHandler) -> Result<()> {
            Ok(())
        }
    }

    #[test]
    fn statements_are_generated_from_one_declaration() {
        let mut recorder = Recorder::default();
        let widget = Widget { key: 1, owner: "o".into(), name: "n".into(), size: 3 };
        saved::insert_and_save(&mut recorder, &widget).unwrap();
        replaced::insert(&mut recorder, &widget).unwrap();
        let select = "SELECT o.name, w.key, w.name, w.size FROM widgets w JOIN owners o ON o.key = w.owner_key WHERE 1";
        assert_eq!(saved::SELECT, select);
        assert_eq!(replaced::SELECT, "SELECT w.name, w.size, w.key FROM widgets w WHERE 2");
        let expected = [
            "INSERT INTO widgets (key, name, size, owner_key) VALUES ($1, $2, $3, $4); [Int(1), Text(\"n\"), Int(3), Int(7)]",
            "UPDATE widgets SET size = $2 WHERE key = $1; [Int(1), Int(3)]",
            "INSERT INTO widgets (name, size, key, owner_key) VALUES ($1, $2, $3, $4) ON CONFLICT (owner_key, name) DO \
            UPDATE SET size = excluded.size, key = excluded.key; [Text(\"n\"), Int(3), Int(1), Int(7)]",
        ];
        assert_eq!(*recorder.0.borrow(), expected);
    }

    #[test]
    fn row_is_read_in_order_of_select() {
        struct Row;

        impl crate::store::Row for Row {
            fn value(&self, at: usize) -> Result<SqlValue<'_>> {
                Ok([SqlValue::Text("owner"), SqlValue::Int(1), SqlValue::Text("name"), SqlValue::Int(3)][at])
            }
        }

        let widget = saved::read(&mut Columns::new(&Row)).unwrap();
        assert_eq!((widget.owner.as_str(), widget.key, widget.name.as_str(), widget.size), ("owner", 1, "name", 3));
    }
}
