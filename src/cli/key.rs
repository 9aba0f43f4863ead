//! `tollgate key create`: makes an API key, shows it once, and shows what to write into `tenants.yaml`. The
//! file holds the keyed hash only, so that who reads it cannot use the key.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use ring::rand::{SecureRandom, SystemRandom};

use crate::config::{self, hash_key};

/// Options of `tollgate key`.
#[derive(Debug, Args)]
pub struct KeyArgs {
    #[command(subcommand)]
    command: KeyCommand,
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// Make a key and show it once.
    Create(CreateArgs),
}

#[derive(Debug, Args)]
struct CreateArgs {
    /// Public id of the key: 4 to 32 of a-z and 0-9. Default: 12 random ones.
    #[arg(long)]
    id: Option<String>,
    /// Tenant that the key is for.
    #[arg(long)]
    tenant: String,
    /// Folder of the configuration files, for the pepper.
    #[arg(long, default_value = "conf", value_name = "DIR")]
    conf: PathBuf,
    /// Print JSON, for programs.
    #[arg(long)]
    json: bool,
}

/// Runs the command. Gives the exit code.
#[must_use]
pub fn run(args: &KeyArgs) -> u8 {
    match &args.command {
        KeyCommand::Create(args) => create(args),
    }
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "this is what the command is for")]
fn create(args: &CreateArgs) -> u8 {
    let settings = match config::load(&args.conf) {
        Ok(settings) => settings,
        Err(faults) => {
            eprintln!("{faults}");
            return 2;
        }
    };
    let Some(tenant) = settings.tenants.iter().find(|tenant| tenant.name == args.tenant) else {
        let known: Vec<_> = settings.tenants.iter().map(|tenant| tenant.name.as_str()).collect();
        eprintln!("no tenant {:?} in tenants.yaml; known: {}", args.tenant, known.join(", "));
        return 2;
    };
    let made = random_text(12, b"abcdefghijklmnopqrstuvwxyz0123456789").and_then(|id| {
        let secret = random_text(43, b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789")?;
        Ok((args.id.clone().unwrap_or(id), secret))
    });
    let Ok((id, secret)) = made else {
        eprintln!("the system gives no random numbers; no key was made");
        return 1;
    };
    let is_sound = (4..=32).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    if !is_sound {
        eprintln!("--id: expected 4 to 32 of a-z and 0-9, found {id:?}");
        return 2;
    }
    if settings.tenants.iter().flat_map(|tenant| &tenant.keys).any(|key| key.id == id) {
        eprintln!("--id: a key {id:?} exists already; choose another id");
        return 2;
    }
    let key = format!("tg_{id}_{secret}");
    let hash: String =
        hash_key(&settings.auth.pepper, &key).iter().map(|byte| format!("{byte:02x}")).collect();
    let hash = format!("hmac-sha256:{hash}");
    if args.json {
        println!("{}", serde_json::json!({"key": key, "id": id, "tenant": tenant.name, "hash": hash}));
    } else {
        println!("{key}\n");
        println!("This is the only time the key is shown. Add to tenant {} in tenants.yaml:\n", tenant.name);
        println!("    keys:\n      - id: {id}\n        hash: {hash}");
    }
    0
}

/// `length` characters of `alphabet`, each equally likely.
fn random_text(length: usize, alphabet: &[u8]) -> Result<String, ring::error::Unspecified> {
    let random = SystemRandom::new();
    // Bytes above the largest multiple of the alphabet's size would make its first characters likelier.
    let fair = 256 / alphabet.len() * alphabet.len();
    let mut text = String::with_capacity(length);
    let mut byte = [0];
    while text.len() < length {
        random.fill(&mut byte)?;
        let drawn = usize::from(byte[0]);
        if drawn < fair {
            text.push(char::from(alphabet[drawn % alphabet.len()]));
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_texts_are_of_the_alphabet_and_differ() {
        let text = random_text(1000, b"abc").expect("random numbers");
        assert!(text.bytes().all(|byte| b"abc".contains(&byte)));
        for letter in ["a", "b", "c"] {
            assert!((250..420).contains(&text.matches(letter).count()), "{letter}");
        }
        assert_ne!(random_text(43, b"abc").expect("random"), random_text(43, b"abc").expect("random"));
    }
}
