//! PostgreSQL over tokio-postgres, made blocking: the connection's runtime runs only while something is asked of it,
//! in the thread that asks. So there is no task to start and none that could outlive its connection, and every
//! answer has a deadline that also holds when the server is there but says nothing.

use std::collections::HashMap;
use std::error::Error as _;
use std::fmt;
use std::pin::{Pin, pin};
use std::time::Duration;

use bytes::BytesMut;
use futures_util::future::try_join_all;
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::config::SslMode;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Client, Config, NoTls, Statement};

use super::tls::Tls;
use super::{Row, StoreError, Value};
use crate::config::settings::{PostgresTls, Secret, Storage};

/// Statements kept ready; past this all are forgotten, which only a program error would reach.
const STATEMENTS: usize = 256;

/// Moves bytes between client and server while somebody polls it.
type Driver = Pin<Box<dyn Future<Output = Result<(), tokio_postgres::Error>> + Send>>;

/// A connection to a server.
pub(super) struct Postgres {
    runtime: Runtime,
    client: Client,
    /// `None` once it has ended.
    driver: Option<Driver>,
    statements: HashMap<String, Statement>,
    deadline: Duration,
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Postgres")
    }
}

impl Postgres {
    /// Connects.
    pub(super) fn connect(url: &Secret, tls: &PostgresTls, settings: &Storage) -> Result<Self, StoreError> {
        // The configuration was checked with the same parser.
        let config = url.expose().parse::<Config>();
        let mut config = config.map_err(|_| StoreError::Away("its URL cannot be read".to_owned()))?;
        config.connect_timeout(settings.connect_timeout);
        config.tcp_user_timeout(settings.statement_timeout);
        config.application_name("tollgate");
        // The server gives up first, so that a slow statement is ended and not only left alone.
        config.options(format!("-c statement_timeout={}", settings.statement_timeout.as_millis()));
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| StoreError::Away(error.to_string()))?;
        let within = settings.connect_timeout;
        let connected = runtime.block_on(async {
            let connecting = async {
                Ok::<(Client, Driver), StoreError>(match tls {
                    PostgresTls::Off => {
                        config.ssl_mode(SslMode::Disable);
                        let (client, driver) = config.connect(NoTls).await.map_err(|error| away(&error))?;
                        (client, Box::pin(driver))
                    }
                    PostgresTls::Verified { ca } => {
                        config.ssl_mode(SslMode::Require);
                        let tls = Tls::new(ca.as_deref()).map_err(StoreError::Away)?;
                        let (client, driver) = config.connect(tls).await.map_err(|error| away(&error))?;
                        (client, Box::pin(driver))
                    }
                })
            };
            tokio::time::timeout(within, connecting).await
        });
        let (client, driver) = connected.unwrap_or_else(|_| {
            Err(StoreError::Away(format!("no connection within {} ms", within.as_millis())))
        })?;
        // A little longer than the server's own deadline: its answer is better than our silence.
        let deadline = settings.statement_timeout + Duration::from_millis(250);
        Ok(Self { runtime, client, driver: Some(driver), statements: HashMap::new(), deadline })
    }

    pub(super) fn query(&mut self, sql: &str, values: &[Value]) -> Result<Vec<Row>, StoreError> {
        let statement = self.prepare(sql)?;
        let values: Vec<_> = values.iter().map(|value| value as &(dyn ToSql + Sync)).collect();
        let asked = self.client.query(&statement, &values);
        let rows = wait(&self.runtime, &mut self.driver, self.deadline, asked)?;
        let row = |row: &tokio_postgres::Row| {
            let values = (0..row.len()).map(|column| row.try_get(column));
            Ok(Row(values.collect::<Result<_, _>>().map_err(|error| classify(&error))?))
        };
        rows.iter().map(row).collect()
    }

    pub(super) fn execute(&mut self, sql: &str, values: &[Value]) -> Result<u64, StoreError> {
        let statement = self.prepare(sql)?;
        let values: Vec<_> = values.iter().map(|value| value as &(dyn ToSql + Sync)).collect();
        let asked = self.client.execute(&statement, &values);
        wait(&self.runtime, &mut self.driver, self.deadline, asked)
    }

    /// All of them are on their way before the first answer is back.
    pub(super) fn execute_each(&mut self, sql: &str, sets: &[Vec<Value>]) -> Result<u64, StoreError> {
        let statement = self.prepare(sql)?;
        let client = &self.client;
        let one = |values: &Vec<Value>| {
            let statement = statement.clone();
            let values = values.clone();
            async move { client.execute_raw(&statement, values).await }
        };
        let asked = try_join_all(sets.iter().map(one));
        Ok(wait(&self.runtime, &mut self.driver, self.deadline, asked)?.into_iter().sum())
    }

    pub(super) fn batch(&mut self, sql: &str) -> Result<(), StoreError> {
        let asked = self.client.batch_execute(sql);
        wait(&self.runtime, &mut self.driver, self.deadline, asked)
    }

    fn prepare(&mut self, sql: &str) -> Result<Statement, StoreError> {
        if let Some(statement) = self.statements.get(sql) {
            return Ok(statement.clone());
        }
        let asked = self.client.prepare(sql);
        let statement = wait(&self.runtime, &mut self.driver, self.deadline, asked)?;
        if self.statements.len() >= STATEMENTS {
            self.statements.clear();
        }
        self.statements.insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }
}

/// Waits for an answer while moving bytes. Without one in time the connection is given up: what comes later would be
/// taken for the answer to something else.
fn wait<T>(
    runtime: &Runtime,
    driver: &mut Option<Driver>,
    deadline: Duration,
    asked: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, StoreError> {
    let Some(moving) = driver.as_mut() else {
        return Err(StoreError::Away("the connection has ended".to_owned()));
    };
    let mut asked = pin!(asked);
    let mut has_ended = false;
    let answer = runtime.block_on(async {
        tokio::select! {
            biased;
            answer = &mut asked => Some(answer),
            // The answer may be why it ended; else the client now knows that there will be none.
            _ = moving => {
                has_ended = true;
                Some(asked.await)
            }
            () = tokio::time::sleep(deadline) => None,
        }
    });
    if has_ended {
        *driver = None;
    }
    match answer {
        Some(Ok(value)) => Ok(value),
        Some(Err(error)) => {
            let error = classify(&error);
            if matches!(error, StoreError::Away(_)) {
                *driver = None;
            }
            Err(error)
        }
        None => {
            *driver = None;
            Err(StoreError::Away(format!("no answer within {} ms", deadline.as_millis())))
        }
    }
}

/// What is the server's or the network's fault may pass; what is the statement's or the values' will not. The classes
/// are those of <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
fn classify(error: &tokio_postgres::Error) -> StoreError {
    let text = explain(error);
    match error.code().map(|code| &code.code()[..2]) {
        // Connection, wrong transaction state (a standby refuses to write), rollback, resources, locks, operator, system.
        Some("08" | "25" | "40" | "53" | "55" | "57" | "58") => StoreError::Away(text),
        Some("22" | "23") => StoreError::Refused(text),
        Some(_) => StoreError::Broken(text),
        None if error.is_closed() || is_io(error) => StoreError::Away(text),
        None => StoreError::Broken(text),
    }
}

fn is_io(error: &tokio_postgres::Error) -> bool {
    error.source().is_some_and(|source| source.is::<std::io::Error>())
}

fn away(error: &tokio_postgres::Error) -> StoreError {
    StoreError::Away(explain(error))
}

/// The whole chain: the outermost of these errors says little.
fn explain(error: &tokio_postgres::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

impl ToSql for Value {
    fn to_sql(
        &self,
        kind: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match self {
            Self::Null => Ok(IsNull::Yes),
            Self::Int(number) if *kind == Type::INT4 => i32::try_from(*number)?.to_sql(kind, out),
            Self::Int(number) if *kind == Type::INT8 => number.to_sql(kind, out),
            Self::Text(text) if *kind == Type::TEXT || *kind == Type::VARCHAR => text.to_sql(kind, out),
            Self::Bytes(bytes) if *kind == Type::BYTEA => bytes.to_sql(kind, out),
            _ => Err(format!("expected a value for a column of type {kind}, found {self:?}").into()),
        }
    }

    fn accepts(kind: &Type) -> bool {
        [Type::INT4, Type::INT8, Type::TEXT, Type::VARCHAR, Type::BYTEA].contains(kind)
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for Value {
    fn from_sql(kind: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(match *kind {
            Type::INT4 => Self::Int(i32::from_sql(kind, raw)?.into()),
            Type::INT8 => Self::Int(i64::from_sql(kind, raw)?),
            Type::BYTEA => Self::Bytes(raw.to_vec()),
            _ => Self::Text(String::from_sql(kind, raw)?),
        })
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self::Null)
    }

    fn accepts(kind: &Type) -> bool {
        [Type::INT4, Type::INT8, Type::TEXT, Type::VARCHAR, Type::NAME, Type::UNKNOWN, Type::BYTEA]
            .contains(kind)
    }
}
