//! `models.yaml` and `tenants.yaml`: what is offered, and to whom.

use serde_json::{Value as Json, json};
use tollgate_filters::tokenizer::ENCODINGS;

use crate::config::describe::schema_of;
use crate::config::fault::{At, Faults, Place};
use crate::config::kind::{Kind, List, Listed, Maybe, Shape, Tried, Word, section};
use crate::config::node::{Node, Value};
use crate::config::schema::scan::{Exemption, ScanChange};
use crate::config::secret::SecretWord;
use crate::config::words::{ANY, Cidr, Date, End, EndpointLabel, Energy, Euros, Name, Pattern, Text, Whole};
use crate::tokenizers::TokenizerSource;

section! {
    /// The whole file.
    ModelsFile {
        /// The catalogue.
        models: Tried<List<Model>> = "[]";
    }
}

section! {
    /// One model. Its phase follows from the dates: preview until `launched`, production, deprecated from
    /// `deprecated`, retired after `end_of_support`.
    Model {
        /// Unique name, by which clients ask for it.
        name: Name = required;
        /// Other names by which clients may ask for it.
        aliases: List<Name> = "[]";
        /// Who made it.
        publisher: Text = required;
        /// First day in production.
        launched: Maybe<Date> = absent "in production, since an unknown day";
        /// From this day on, answers carry `deprecation`.
        deprecated: Maybe<Date> = absent "not deprecated";
        /// Last day on which it may be used.
        end_of_support: Maybe<Date> = absent "no end is known";
        /// Name of the model to use instead, which answers name.
        successor: Maybe<Name> = absent "none is named";
        /// Tokens of prompt and answer together.
        context_length: Maybe<Whole<1, ANY>> = absent "not known";
        /// What counts its tokens: an encoding that ships with the program, or its `tokenizer.json`, relative to the
        /// directory of this file.
        tokenizer: Maybe<TokenizerName> = absent "four characters a token";
        /// Tokens that its chat template adds.
        chat_template: Maybe<ChatTemplate> = absent "by the family that the tokenizer's special tokens tell";
        /// What images in its requests come to.
        images: Images = "{}";
        /// What tokens cost: one set of prices, or a list of sets with the day from which each holds. Usage keeps the
        /// price of its day.
        prices: PriceList = "{}";
        /// Prompt security for requests to this model, where it differs.
        scan: Maybe<ScanChange> = absent "as tollgate.yaml says";
        /// Energy.
        energy_kwh_per_million: Maybe<Energy> = absent "not known";
    }
}

section! {
    /// Tokens around the texts of a chat.
    ChatTemplate {
        /// Once for a request: its beginning, a system prompt of the template's own, the beginning of the answer.
        request: Whole<0, 100_000> = "0";
        /// For each message.
        message: Whole<0, 1_000> = "0";
        /// Once for a request with tools, beside their definitions.
        tools: Whole<0, 100_000> = "0";
    }
}

section! {
    /// Tokens of an image: `tokens`, and `tile_tokens` for each tile of it.
    Images {
        /// For an image, whatever its size.
        tokens: Whole<0, 1_000_000> = "256";
        /// Side of a tile in pixels.
        tile_px: Maybe<Whole<1, 65536>> = absent "images are not divided";
        /// For each tile.
        tile_tokens: Whole<0, 1_000_000> = "0";
        /// An image with a longer side is brought down to this many pixels before it is divided.
        fit_px: Maybe<Whole<1, 65536>> = absent "images keep their size";
    }
}

section! {
    /// Prices.
    Prices {
        /// First day on which they hold, in UTC; needed for all but the first of a list, which also holds before its
        /// day.
        from: Maybe<Date> = absent "since ever";
        /// Input tokens.
        input: Euros = "0.9";
        /// Output tokens without reasoning.
        output: Euros = "4";
        /// Reasoning output tokens.
        reasoning: Euros = "21";
    }
}

/// One set of prices, or several over time.
pub(crate) enum PriceList {}

impl Kind for PriceList {
    type Value = Listed<Prices>;

    fn read(node: &Node, place: &Place, faults: &mut Faults) -> Option<Self::Value> {
        if matches!(node.value, Value::List(_)) {
            return List::<Prices>::read(node, place, faults);
        }
        let value = Prices::read(node, place, faults)?;
        Some(Listed { items: vec![At { value, place: place.clone() }], lost: Vec::new() })
    }

    fn shape() -> Shape {
        let inner = Box::new(List::<Prices>::shape());
        Shape::Or { words: "one of them".to_owned(), schema: schema_of(&Prices::shape()), inner }
    }
}

section! {
    /// The whole file.
    TenantsFile {
        /// The tenants.
        tenants: List<Tenant> = "[]";
    }
}

section! {
    /// Who pays.
    Tenant {
        /// Unique name; the `tenant` label of metrics and records.
        name: Name = required;
        /// Name of a tier of tiers.yaml.
        tier: Name = required;
        /// Catalogue models that its keys may use: names, or patterns with `*`.
        models: List<Pattern> = "['*']";
        /// Networks from which its keys may be used; an empty list is anywhere.
        source_networks: List<Cidr> = "[]";
        /// Prompt security for this tenant, where it differs.
        scan: Maybe<ScanChange> = absent "as tollgate.yaml, the model and the tier say";
        /// Rules that do not count for this tenant, each for a time and a reason.
        scan_exemptions: Maybe<List<Exemption>> = absent "none";
        /// Its API keys.
        keys: List<ApiKey> = "[]";
    }
}

section! {
    /// An API key `tg_<id>_<secret>`. One of `hash` and `secret` must be given.
    ApiKey {
        /// The public part of the key; unique over all tenants.
        id: KeyId = required;
        /// The key's hash under `auth.pepper`, as `tollgate key create` prints it.
        hash: Maybe<KeyHash> = absent "`secret` is given";
        /// Where the whole key is.
        secret: Maybe<SecretWord> = absent "`hash` is given";
        /// Name of a tier of tiers.yaml, narrower than the tenant's or beside it.
        tier: Maybe<Name> = absent "the tenant's";
        /// Narrower than the tenant's.
        models: Maybe<List<Pattern>> = absent "the tenant's";
        /// Endpoints that it may call; `models` is the list of models and each of them.
        endpoints: Maybe<List<EndpointLabel>> = absent "all";
        /// Networks from which it may be used, within the tenant's; an empty list is all of those.
        source_networks: List<Cidr> = "[]";
        /// Last day on which the key works, or the moment from which on it does not.
        expires: Maybe<End> = absent "never";
    }
}

/// What counts the tokens of a model.
pub(crate) enum TokenizerName {}

impl Word for TokenizerName {
    type Value = TokenizerSource;

    fn words() -> String {
        let encodings: Vec<&str> = ENCODINGS.iter().map(|(name, _)| *name).collect();
        format!("one of {}, or the path of a tokenizer.json", encodings.join(", "))
    }

    fn parse(text: &str) -> Option<TokenizerSource> {
        if ENCODINGS.iter().any(|(name, _)| *name == text) {
            return Some(TokenizerSource::Encoding(text.to_owned()));
        }
        text.ends_with(".json").then(|| TokenizerSource::File(text.into()))
    }
}

/// The public part of an API key.
pub(crate) enum KeyId {}

impl Word for KeyId {
    type Value = String;
    // Somebody will paste the whole key here.
    const HIDDEN: bool = true;

    fn words() -> String {
        "a key id of 4 to 32 small letters and digits".to_owned()
    }

    fn schema() -> Json {
        json!({ "type": "string", "pattern": "^[a-z0-9]{4,32}$" })
    }

    fn parse(text: &str) -> Option<String> {
        let is_id = (4..=32).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        is_id.then(|| text.to_owned())
    }
}

/// The keyed hash of an API key.
pub(crate) enum KeyHash {}

impl Word for KeyHash {
    type Value = [u8; 32];
    const HIDDEN: bool = true;

    fn words() -> String {
        "hmac-sha256: and 64 hexadecimal digits".to_owned()
    }

    fn schema() -> Json {
        json!({ "type": "string", "pattern": "^hmac-sha256:[0-9a-fA-F]{64}$" })
    }

    fn parse(text: &str) -> Option<[u8; 32]> {
        let digits = text.strip_prefix("hmac-sha256:")?.as_bytes();
        if digits.len() != 64 {
            return None;
        }
        let mut hash = [0; 32];
        for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |digit: u8| char::from(digit).to_digit(16);
            *byte = u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok()?;
        }
        Some(hash)
    }
}
