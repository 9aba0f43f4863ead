//! SQLite in a file. In WAL mode readers and the one writer do not wait for each other, and with `synchronous=FULL` a
//! committed transaction survives a power loss (<https://sqlite.org/pragma.html#pragma_synchronous>).

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{ErrorCode, ToSql, params_from_iter};

use super::{Row, StoreError, Value};

/// Statements kept ready.
const STATEMENTS: usize = 128;
/// Between two tries of what does not wait by itself.
const BUSY: Duration = Duration::from_millis(5);

/// A connection to a file.
#[derive(Debug)]
pub(super) struct Sqlite(rusqlite::Connection);

impl Sqlite {
    /// Opens the file, or makes it, readable by its owner only: it holds the hashes of keys.
    pub(super) fn open(path: &Path, busy: Duration) -> Result<Self, StoreError> {
        let fault = |error: &dyn std::fmt::Display| StoreError::Away(format!("{}: {error}", path.display()));
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|error| fault(&error))?;
        }
        let made = OpenOptions::new().create(true).append(true).mode(0o600).open(path);
        made.map_err(|error| fault(&error))?;
        let connection = rusqlite::Connection::open(path).map_err(|error| fault(&error))?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        connection.busy_timeout(busy).map_err(|error| fault(&error))?;
        let sqlite = Self(connection);
        sqlite.batch("PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON")?;
        sqlite.write_ahead(busy)?;
        Ok(sqlite)
    }

    /// Several processes may find a new file at once, and this change alone does not wait for others by itself.
    fn write_ahead(&self, busy: Duration) -> Result<(), StoreError> {
        let deadline = Instant::now() + busy;
        loop {
            match self.batch("PRAGMA journal_mode=WAL") {
                Err(StoreError::Away(_)) if Instant::now() < deadline => {
                    #[expect(
                        clippy::disallowed_methods,
                        reason = "a thread that opens a store serves nobody"
                    )]
                    std::thread::sleep(BUSY);
                }
                result => return result,
            }
        }
    }

    pub(super) fn query(&self, sql: &str, values: &[Value]) -> Result<Vec<Row>, StoreError> {
        let run = || {
            let mut statement = self.0.prepare_cached(&numbered(sql))?;
            let columns = statement.column_count();
            let mut rows = statement.query(params_from_iter(values))?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                let values = (0..columns).map(|column| row.get_ref(column).map(value));
                found.push(Row(values.collect::<Result<_, _>>()?));
            }
            Ok(found)
        };
        run().map_err(|error| classify(&error))
    }

    pub(super) fn execute(&self, sql: &str, values: &[Value]) -> Result<u64, StoreError> {
        let run = || {
            let mut statement = self.0.prepare_cached(&numbered(sql))?;
            statement.execute(params_from_iter(values))
        };
        run().map(|count| count as u64).map_err(|error| classify(&error))
    }

    pub(super) fn batch(&self, sql: &str) -> Result<(), StoreError> {
        self.0.execute_batch(sql).map_err(|error| classify(&error))
    }
}

/// `$1` is a name to SQLite, numbered in the order of first use; `?1` is the first parameter wherever it stands.
fn numbered(sql: &str) -> String {
    sql.replace('$', "?")
}

fn value(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => Value::Int(number),
        // No column of ours holds one; a sum of none would be an error in whoever wrote the statement.
        ValueRef::Real(number) => Value::Text(number.to_string()),
        ValueRef::Text(text) => Value::Text(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Blob(bytes) => Value::Bytes(bytes.to_vec()),
    }
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Int(number) => ValueRef::Integer(*number),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Bytes(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

/// What is the file's or the disk's fault may pass; what is the statement's or the values' will not.
fn classify(error: &rusqlite::Error) -> StoreError {
    use rusqlite::Error::SqliteFailure;
    let text = error.to_string();
    match error {
        SqliteFailure(failure, _) => match failure.code {
            ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch | ErrorCode::TooBig => {
                StoreError::Refused(text)
            }
            // `Unknown` is SQLITE_ERROR, which a statement gets that cannot be prepared.
            ErrorCode::Unknown | ErrorCode::ApiMisuse | ErrorCode::ParameterOutOfRange => {
                StoreError::Broken(text)
            }
            _ => StoreError::Away(text),
        },
        _ => StoreError::Broken(text),
    }
}
