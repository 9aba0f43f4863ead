//! One connection, to either database. The dialect is what both understand:
//!
//! - parameters are `$1`, `$2`, …;
//! - columns are `BIGINT`, `TEXT` and `BYTEA`, nothing else: whole numbers (money in 1e-12 EUR, times in milliseconds
//!   since 1970, yes and no as 1 and 0), texts, bytes. Both are exact; neither has a date or a decimal of the other;
//! - `INSERT … ON CONFLICT … DO NOTHING` and `DO UPDATE SET a = t.a + excluded.a`, `RETURNING`, `CASE`, `COALESCE`;
//! - a sum is written `CAST(SUM(a) AS BIGINT)`, since PostgreSQL widens it;
//! - `$` stands for parameters only, never in a literal.
//!
//! Every call blocks and has a deadline. Never call it on a thread that serves requests or drives a runtime.

use super::postgres::Postgres;
use super::sqlite::Sqlite;
use super::{StoreError, migrations};
use crate::config::settings::{Storage, StoragePlace};

/// A value of a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Nothing.
    Null,
    /// A whole number.
    Int(i64),
    /// Text; without the character 0, which PostgreSQL cannot keep.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Int(value.into())
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl From<Vec<u8>> for Value {
    fn from(value: Vec<u8>) -> Self {
        Self::Bytes(value)
    }
}

impl<T: Into<Self>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// One row of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row(pub(super) Vec<Value>);

impl Row {
    /// The whole number in a column, counted from 0.
    ///
    /// # Errors
    /// If something else is there.
    pub fn int(&self, column: usize) -> Result<i64, StoreError> {
        match self.0.get(column) {
            Some(Value::Int(value)) => Ok(*value),
            other => Err(unexpected("a whole number", column, other)),
        }
    }

    /// The text in a column.
    ///
    /// # Errors
    /// If something else is there.
    pub fn text(&self, column: usize) -> Result<&str, StoreError> {
        match self.0.get(column) {
            Some(Value::Text(value)) => Ok(value),
            other => Err(unexpected("a text", column, other)),
        }
    }

    /// The bytes in a column.
    ///
    /// # Errors
    /// If something else is there.
    pub fn bytes(&self, column: usize) -> Result<&[u8], StoreError> {
        match self.0.get(column) {
            Some(Value::Bytes(value)) => Ok(value),
            other => Err(unexpected("bytes", column, other)),
        }
    }

    /// Whether a column holds nothing.
    #[must_use]
    pub fn is_null(&self, column: usize) -> bool {
        matches!(self.0.get(column), Some(Value::Null))
    }

    /// The whole number in a column, if there is one.
    ///
    /// # Errors
    /// If something else is there.
    pub fn maybe_int(&self, column: usize) -> Result<Option<i64>, StoreError> {
        if self.is_null(column) { Ok(None) } else { self.int(column).map(Some) }
    }

    /// The text in a column, if there is one.
    ///
    /// # Errors
    /// If something else is there.
    pub fn maybe_text(&self, column: usize) -> Result<Option<&str>, StoreError> {
        if self.is_null(column) { Ok(None) } else { self.text(column).map(Some) }
    }
}

fn unexpected(expected: &str, column: usize, found: Option<&Value>) -> StoreError {
    let found = match found {
        None => "no such column",
        Some(Value::Null) => "nothing",
        Some(Value::Int(_)) => "a whole number",
        Some(Value::Text(_)) => "a text",
        Some(Value::Bytes(_)) => "bytes",
    };
    StoreError::Broken(format!("column {column}: expected {expected}, found {found}"))
}

/// A connection whose tables are up to date.
#[derive(Debug)]
pub struct Connection(Backend);

#[derive(Debug)]
enum Backend {
    Sqlite(Sqlite),
    Postgres(Box<Postgres>),
}

impl Connection {
    /// Connects and brings the tables up to date. Safe when several processes do it at once.
    ///
    /// # Errors
    /// If the database cannot be reached or set up.
    pub fn open(settings: &Storage) -> Result<Self, StoreError> {
        let backend = match &settings.place {
            StoragePlace::Sqlite(path) => Backend::Sqlite(Sqlite::open(path, settings.statement_timeout)?),
            StoragePlace::Postgres { url, tls } => {
                Backend::Postgres(Box::new(Postgres::connect(url, tls, settings)?))
            }
        };
        let mut connection = Self(backend);
        migrations::run(&mut connection)?;
        Ok(connection)
    }

    /// Runs a statement that gives rows.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn query(&mut self, sql: &str, values: &[Value]) -> Result<Vec<Row>, StoreError> {
        match &mut self.0 {
            Backend::Sqlite(sqlite) => sqlite.query(sql, values),
            Backend::Postgres(postgres) => postgres.query(sql, values),
        }
    }

    /// Runs a statement that changes something; gives the number of rows it changed.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn execute(&mut self, sql: &str, values: &[Value]) -> Result<u64, StoreError> {
        match &mut self.0 {
            Backend::Sqlite(sqlite) => sqlite.execute(sql, values),
            Backend::Postgres(postgres) => postgres.execute(sql, values),
        }
    }

    /// Runs one statement for each set of values, in order; one round trip in all. Gives the number of rows changed.
    /// Inside a transaction, unless half of it may be done.
    ///
    /// # Errors
    /// [`StoreError`] of the first that failed.
    pub fn execute_each(&mut self, sql: &str, sets: &[Vec<Value>]) -> Result<u64, StoreError> {
        match &mut self.0 {
            Backend::Sqlite(sqlite) => {
                sets.iter().try_fold(0, |sum, values| Ok(sum + sqlite.execute(sql, values)?))
            }
            Backend::Postgres(postgres) => postgres.execute_each(sql, sets),
        }
    }

    /// Does `work` in one transaction: all of it, or with an error nothing. SQLite has one writer at a time and waits
    /// for it; PostgreSQL runs at READ COMMITTED, so lock (`FOR UPDATE` has no meaning in SQLite: update first, then
    /// read) what two gateways could change at once.
    ///
    /// # Errors
    /// What `work` says, or [`StoreError`] of the commit. After [`StoreError::Away`] it may have been committed all
    /// the same.
    pub fn transaction<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.batch(match self.0 {
            Backend::Sqlite(_) => "BEGIN IMMEDIATE",
            Backend::Postgres(_) => "BEGIN",
        })?;
        match work(self) {
            Ok(value) => {
                if let Err(error) = self.batch("COMMIT") {
                    // SQLite stays in the transaction when it is too busy to commit.
                    drop(self.batch("ROLLBACK"));
                    return Err(error);
                }
                Ok(value)
            }
            Err(error) => {
                // Where the connection is gone, so is the transaction.
                drop(self.batch("ROLLBACK"));
                Err(error)
            }
        }
    }

    /// Does `work` in a transaction that reads one moment of the database, whoever writes meanwhile.
    ///
    /// # Errors
    /// What `work` says, or [`StoreError`].
    pub fn snapshot<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.batch(match self.0 {
            Backend::Sqlite(_) => "BEGIN DEFERRED",
            Backend::Postgres(_) => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        })?;
        let result = work(self);
        // Nothing was changed.
        drop(self.batch("ROLLBACK"));
        result
    }

    /// Runs statements without parameters, separated by `;`.
    pub(super) fn batch(&mut self, sql: &str) -> Result<(), StoreError> {
        match &mut self.0 {
            Backend::Sqlite(sqlite) => sqlite.batch(sql),
            Backend::Postgres(postgres) => postgres.batch(sql),
        }
    }

    /// Makes other processes that call this wait until the transaction ends. For migrations.
    pub(super) fn lock_all(&mut self) -> Result<(), StoreError> {
        match &mut self.0 {
            // `BEGIN IMMEDIATE` did it.
            Backend::Sqlite(_) => Ok(()),
            Backend::Postgres(postgres) => postgres.batch("SELECT pg_advisory_xact_lock(8390512744012)"),
        }
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// If not.
    pub fn ping(&mut self) -> Result<(), StoreError> {
        self.query("SELECT 1", &[]).map(drop)
    }
}
