//! `keys` of `tollgate.yaml`, and who may use the admin listener.

use crate::config::kind::{List, Maybe, choice, section};
use crate::config::secret::SecretWord;
use crate::config::settings::Role;
use crate::config::words::{InputFile, ListenAddress, Name, OutputFile, WebAddress, Whole};

section! {
    /// The admin listener.
    Admin {
        /// Address and port. It has no TLS: keep it on loopback or on a network of its own.
        address: ListenAddress = "127.0.0.1:9090";
        /// Who may use `/admin/v1`.
        tokens: Maybe<List<AdminToken>> = absent "nobody";
    }
}

section! {
    /// A credential of the admin plane, sent as `Authorization: Bearer`.
    AdminToken {
        /// Unique name, by which the log calls whoever holds it.
        name: Name = required;
        /// What it allows: `read-only` to look, `operator` to change things as well.
        role: RoleName = required;
        /// The token, of at least 16 characters.
        token: SecretWord = required;
    }
}

choice! {
    /// What a credential of the admin plane allows.
    RoleName -> Role { "read-only" => Role::ReadOnly, "operator" => Role::Operator }
}

section! {
    /// API keys in the store.
    Keys {
        /// How long a secret works on after it was replaced, where the key or the command says nothing.
        rotation_grace_s: Whole<0, 31_536_000> = "86400";
        /// Folder for secrets that `rotate_every` has made, relative to the working directory, one file for each key.
        /// Without it a due rotation is announced and left to whoever hears of it.
        rotation_folder: Maybe<OutputFile> = absent "due rotations are announced only";
        /// Between two looks at the store for keys that others have changed; a revocation takes no longer than that.
        poll_ms: Whole<10, 500> = "250";
        /// File from which the gateway starts when the store is away, relative to the working directory; `null` for
        /// none.
        snapshot: Maybe<OutputFile> = "var/keys.snapshot";
        /// Who is told about rotations.
        webhook: Maybe<Webhook> = absent "nobody is told";
    }
}

section! {
    /// Where events are posted.
    Webhook {
        /// Where to: http or https.
        url: WebAddress = required;
        /// Secret that signs what is sent, after standardwebhooks.com.
        secret: SecretWord = required;
        /// PEM file of authorities to trust instead of the system's; relative to the directory of this file.
        ca: Maybe<InputFile> = absent "the system's authorities";
        /// One try.
        timeout_ms: Whole<1, 30_000> = "5000";
        /// Tries for one event; between them lie 1 s, 2 s, 4 s and so on.
        attempts: Whole<1, 6> = "5";
    }
}
