//! How letters follow each other, to tell words from noise: is this a sentence written backwards or in ROT13, does
//! this `1` stand for an i or an l, is what came out of an encoding text at all?
//!
//! Made for the Latin alphabet: half English, half French, German, Spanish, Italian and Portuguese. Other scripts
//! say nothing either way.

/// Sums over a stretch of text, in eighths of a bit.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Likelihood {
    /// Pairs of letters, or of a letter and a word's border.
    pub(crate) pairs: i32,
    /// How much better than chance the pairs are as they stand.
    pub(crate) plain: i32,
    /// The same after ROT13.
    pub(crate) rot13: i32,
    /// The same read backwards.
    pub(crate) reversed: i32,
}

impl Likelihood {
    /// Reads `bytes`; what is no ASCII letter is a word's border.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self::default().with(bytes, None)
    }

    /// The same if each byte were turned so.
    fn of_turned(bytes: &[u8], turn: impl Fn(u8) -> u8) -> Self {
        Self::default().with_turned(bytes, BORDER, turn)
    }

    /// The sum of these bytes as well, before which stands `last`.
    pub(crate) fn with(self, bytes: &[u8], last: Option<&u8>) -> Self {
        let last = last.map_or(BORDER, |last| LETTER_OF[usize::from(*last)]);
        self.with_turned(bytes, last, |byte| byte)
    }

    #[inline]
    fn with_turned(self, bytes: &[u8], mut last: u8, turn: impl Fn(u8) -> u8) -> Self {
        let mut sum = self;
        // Four sums in one word; a lane holds the sum of 512 pairs.
        for chunk in bytes.chunks(512) {
            let mut lanes = 0_u64;
            for byte in chunk {
                let next = LETTER_OF[usize::from(turn(*byte))];
                lanes += PAIRS[(usize::from(last) << 5 | usize::from(next)) & 1023];
                last = next;
            }
            let lane = |at: u32| i32::from((lanes >> (16 * at)) as u16);
            let pairs = lane(3);
            let of = |at: u32| lane(at) - pairs * i32::from(BIAS);
            sum.pairs += pairs;
            sum.plain += of(0);
            sum.rot13 += of(1);
            sum.reversed += of(2);
        }
        sum
    }

    /// Whether it reads better as it stands than after either change and than chance, by more than that for each pair.
    pub(crate) fn is_plain_by(self, margin: i32) -> bool {
        self.plain > self.rot13.max(self.reversed).max(0) + margin * self.pairs
    }

    /// Whether ROT13 makes words of what are none. Words of the six languages have 5 and more a pair, chance has
    /// less than 0. In 7,000 windows of 96 bytes of ordinary prompts in 20 languages, code among them, none passed.
    pub(crate) fn is_rot13(self) -> bool {
        self.pairs >= MIN_PAIRS && self.rot13 > 3 * self.pairs && self.rot13 - self.plain > 3 * self.pairs
    }

    /// Whether it reads better backwards. Languages differ far less from themselves reversed than from ROT13: of 60,000 sentences and
    /// lines of ordinary prompts one in 800 passes, most of them paths and code, and of their reverses 99.6 in 100.
    pub(crate) fn is_reversed(self) -> bool {
        let better = self.reversed - self.plain;
        self.pairs >= MIN_PAIRS
            && self.reversed > 3 * self.pairs
            && 2 * better > 3 * self.pairs
            && better > self.pairs + SHORT_MARGIN
    }

    /// By how many places the letters of `bytes`, of which this is the sum, have to be moved on in the alphabet to be words, if they
    /// are none as they stand; not by thirteen, of which [`Likelihood::is_rot13`] tells.
    ///
    /// # Cost
    /// A tenth of a microsecond for a line: how often each letter stands tells which of the moves is worth a closer look.
    pub(crate) fn moved(self, bytes: &[u8]) -> Option<u8> {
        if self.is_words() || self.pairs < MIN_MOVED_PAIRS {
            return None;
        }
        let counts = counts(bytes);
        let often =
            |by: usize| -> i16 { counts.iter().zip(&OFTEN[by..]).map(|(count, often)| count * often).sum() };
        let by = (0..LETTERS).max_by_key(|by| often(*by)).filter(|by| !matches!(by, 0 | 13))? as u8;
        self.is_clearly(bytes, |byte| moved_by(byte, by)).then_some(by)
    }

    /// Whether `bytes`, of which this is the sum, are words with the alphabet from its end, and none as they stand.
    pub(crate) fn is_mirrored(self, bytes: &[u8]) -> bool {
        if self.is_words() || self.pairs < MIN_MOVED_PAIRS {
            return false;
        }
        let counts = counts(bytes);
        let often: i16 = counts.iter().rev().zip(&OFTEN).map(|(count, often)| count * often).sum();
        often > 0 && self.is_clearly(bytes, mirrored)
    }

    /// Whether words come out if each byte is turned so, where there were none.
    fn is_clearly(self, bytes: &[u8], turn: impl Fn(u8) -> u8) -> bool {
        let turned = Self::of_turned(bytes, turn);
        turned.plain > 4 * turned.pairs && turned.plain - self.plain > 4 * turned.pairs
    }

    /// Whether these are words rather than noise.
    pub(crate) fn is_words(self) -> bool {
        self.plain > self.pairs
    }
}

/// A letter so many places on in the alphabet, and any other byte as it is.
pub(crate) fn moved_by(byte: u8, by: u8) -> u8 {
    match byte {
        b'a'..=b'z' => (byte - b'a' + by) % LETTERS as u8 + b'a',
        b'A'..=b'Z' => (byte - b'A' + by) % LETTERS as u8 + b'A',
        _ => byte,
    }
}

/// A letter of the alphabet from its end, and any other byte as it is.
pub(crate) fn mirrored(byte: u8) -> u8 {
    match byte {
        b'a'..=b'z' => b'a' + b'z' - byte,
        b'A'..=b'Z' => b'A' + b'Z' - byte,
        _ => byte,
    }
}

/// How often each letter stands there.
fn counts(bytes: &[u8]) -> [i16; LETTERS] {
    let mut counts = [0; LETTERS];
    for byte in bytes {
        if let Some(count) = counts.get_mut(usize::from(LETTER_OF[usize::from(*byte)])) {
            *count += 1;
        }
    }
    counts
}

const LETTERS: usize = 26;

/// How much more often a letter stands than one in twenty-six, log2 in eighths, the alphabet twice: of six languages, as the pairs
/// below.
const OFTEN: [i16; 2 * LETTERS] = {
    let once: [i16; LETTERS] = [
        9, -12, -3, 0, 15, -9, -11, -2, 7, -26, -23, 3, -3, 7, 6, -5, -21, 6, 7, 8, 2, -12, -14, -34, -15,
        -26,
    ];
    let mut twice = [0; 2 * LETTERS];
    let mut at = 0;
    while at < 2 * LETTERS {
        twice[at] = once[at % LETTERS];
        at += 1;
    }
    twice
};

/// Fewer pairs than in three or four words decide nothing.
const MIN_PAIRS: i32 = 20;

/// The same where one of twenty-four moves is to be told.
const MIN_MOVED_PAIRS: i32 = 24;

/// How much better few pairs have to be beyond that: a path or a line of code may read better backwards by chance.
const SHORT_MARGIN: i32 = 30;

/// How much better than chance `b` follows `a`; anything but ASCII letters is a word's border.
pub(crate) fn follows(a: u8, b: u8) -> i32 {
    let [a, b] = [a, b].map(|byte| usize::from(LETTER_OF[usize::from(byte)]));
    FOLLOWS.get(a).and_then(|row| row.get(b)).map_or(0, |value| i32::from(*value))
}

const BORDER: u8 = 26;
/// Makes every entry of [`FOLLOWS`] positive.
const BIAS: i8 = 40;

static LETTER_OF: [u8; 256] = {
    let mut letters = [BORDER; 256];
    let mut at = 0;
    while at < 26 {
        letters[b'a' as usize + at] = at as u8;
        letters[b'A' as usize + at] = at as u8;
        at += 1;
    }
    letters
};

const fn rot13(letter: usize) -> usize {
    if letter < 26 { (letter + 13) % 26 } else { letter }
}

/// By first letter times 32 and second letter: plain, ROT13, reversed, each with the bias, and 1 where the pair
/// counts, in lanes of 16 bits.
static PAIRS: [u64; 1024] = {
    let mut pairs = [0; 1024];
    let mut a = 0;
    while a < 27 {
        let mut b = 0;
        while b < 27 {
            let plain = (FOLLOWS[a][b] + BIAS) as u64;
            let rot13 = (FOLLOWS[rot13(a)][rot13(b)] + BIAS) as u64;
            let reversed = (FOLLOWS[b][a] + BIAS) as u64;
            if a != 26 || b != 26 {
                pairs[a << 5 | b] = plain | rot13 << 16 | reversed << 32 | 1 << 48;
            }
            b += 1;
        }
        a += 1;
    }
    pairs
};

/// log2 of how much more often the second letter follows the first than one letter in 27 would, in eighths, held
/// to five bits. The 27th letter is a word's border. Counted over 7 million letters of ordinary prompts and manuals.
#[rustfmt::skip]
const FOLLOWS: [[i8; 27]; 27] = [
    [-40, -3, 4, -1, -40, -20, -6, -29, -2, -31, -14, 10, -1, 16, -19, -5, -20, 12, 8, 13, -5, -11, -30, -38, -13, -23, 15],
    [12, -15, -26, -34, 22, -37, -24, -31, 15, -18, -40, 14, -36, -33, 9, -34, -40, 6, -2, -14, 9, -39, -40, -40, 0, -38, 3],
    [14, -40, -7, -34, 13, -40, -40, 17, 10, -40, -3, 0, -40, -32, 19, -40, -40, 2, -23, 10, 1, -40, -40, -40, -23, -40, 1],
    [10, -31, -40, -19, 26, -36, -22, -40, 14, -40, -40, -24, -28, -31, 8, -27, -40, -12, -11, -40, -3, -27, -40, -40, -25, -40, 23],
    [-4, -14, -1, 0, -12, -16, -15, -27, -7, -32, -37, 1, -1, 14, -30, -15, -30, 14, 13, 0, -20, -13, -24, -8, -25, -24, 24],
    [6, -40, -40, -40, 12, 3, -25, -40, 19, -40, -40, -6, -40, -40, 20, -40, -40, 6, -22, -4, 6, -40, -40, -40, -21, -40, 19],
    [4, -34, -40, -36, 21, -40, -11, 0, 7, -40, -31, -4, -32, -2, 0, -3, -40, 8, -9, -17, 8, -40, -40, -40, -18, -34, 23],
    [16, -40, -40, -40, 27, -40, -40, -40, 13, -40, -40, -12, -24, -10, 10, -40, -40, -4, -25, 2, -12, -40, -37, -40, -20, -40, 13],
    [1, -12, 8, -2, 6, -5, -4, -40, -40, -40, -26, 3, -1, 20, 12, -8, -26, -3, 11, 10, -30, -1, -40, -31, -40, -13, 4],
    [17, -31, -36, -31, 25, -28, -38, -34, 0, -33, -37, -34, -38, -38, 19, -23, -40, -34, 2, -37, 18, -34, -36, -40, -38, -40, -2],
    [6, -29, -31, -15, 23, -23, -5, -29, 10, -40, -36, -5, -23, 2, 6, -28, -40, -9, 6, 3, -7, -40, -20, -40, -21, -23, 21],
    [14, -30, -27, -4, 20, -26, -21, -30, 15, -40, -36, 11, -17, -34, 9, -26, -37, -40, -4, -3, -3, -25, -32, -40, -1, -40, 17],
    [19, -4, -37, -28, 21, -40, -31, -40, 9, -40, -40, -27, 1, -37, 12, 14, -40, -39, -8, -33, -2, -40, -40, -40, -16, -40, 15],
    [4, -40, 2, 12, 10, -11, 10, -30, 1, -39, -22, -24, -32, -11, 1, -35, -40, -40, 7, 15, -10, -20, -40, -40, -20, -26, 22],
    [-22, -14, -6, -2, -24, 1, -10, -34, -13, -36, -21, -1, 7, 20, -10, -6, -40, 15, 4, -1, 9, -9, -6, -40, -30, -40, 17],
    [15, -40, -28, -22, 15, -35, -29, -10, 1, -40, -27, 11, -28, -37, 14, -3, -40, 18, -7, 12, 1, -40, -40, -40, -21, -40, 3],
    [-26, -40, -40, -40, -40, -40, -37, -40, -24, -40, -40, -19, -39, -40, -40, -40, -40, -37, -40, -40, 37, -40, -40, -40, -40, -40, -2],
    [13, -27, -6, -6, 20, -23, -11, -34, 12, -40, -15, -19, -4, -8, 11, -24, -40, -11, 1, 2, -5, -22, -23, -31, -9, -32, 19],
    [-2, -40, -2, -33, 13, -32, -38, -6, 8, -40, -18, -29, -23, -28, 3, -3, -34, -33, 2, 16, 0, -40, -22, -40, -15, -40, 27],
    [9, -40, -24, -40, 18, -33, -31, 15, 15, -40, -40, -19, -30, -40, 9, -18, -40, 4, -2, -7, -4, -40, -21, -40, -11, -26, 20],
    [1, -9, 1, -4, 12, -12, -8, -30, 1, -40, -36, 5, 2, 15, -22, -5, -40, 14, 13, 11, -40, -23, -40, -17, -32, -30, 6],
    [13, -40, -40, -38, 29, -40, -40, -40, 19, -40, -40, -40, -40, -40, 16, -40, -40, -11, -27, -40, -18, -29, -40, -40, -38, -40, 3],
    [15, -40, -38, -32, 19, -35, -40, 12, 20, -40, -32, -10, -40, -2, 11, -40, -40, -4, -7, -25, -17, -40, -11, -25, -40, -40, 13],
    [9, -39, -4, -34, 9, -32, -40, -23, 12, -39, -40, -29, -23, -40, -15, 18, -40, -12, -30, 22, -26, -32, -40, -25, -21, -30, 21],
    [-10, -28, -26, -30, 1, -39, -31, -40, -7, -40, -40, -12, -16, -17, 14, -4, -40, -26, 10, -8, -16, -40, -27, -40, -40, -24, 32],
    [18, -35, -25, -39, 20, -36, -32, -17, 17, -40, -40, -17, -36, -37, -6, -40, -40, -40, -33, -10, 16, -40, -13, -37, -25, 3, 17],
    [12, -2, 7, 9, 5, 0, -7, -7, 6, -22, -19, 1, 0, -5, 1, 6, -14, -2, 8, 10, -2, -9, -3, -37, -15, -25, 0],
];

#[cfg(test)]
mod tests {
    use super::*;

    const SENTENCES: [(&str, &str); 6] = [
        ("English", "Could you tell me which train leaves for the coast tomorrow morning?"),
        ("French", "Pourriez-vous me dire quel train part pour la mer demain matin ?"),
        ("German", "Kannst du mir sagen, welcher Zug morgen an die See faehrt?"),
        ("Spanish", "Me puedes decir que tren sale para la costa por la manana?"),
        ("Turkish", "Yarin sabah sahile hangi trenin gittigini soyler misin?"),
        ("Polish", "Czy mozesz mi powiedziec, ktory pociag jedzie jutro nad morze?"),
    ];

    #[test]
    fn a_sentence_is_told_from_its_rot13_and_its_reverse() {
        for (name, sentence) in SENTENCES {
            let plain = Likelihood::of(sentence.as_bytes());
            assert!(!plain.is_rot13() && !plain.is_reversed() && plain.is_words(), "{name}: {plain:?}");
            if matches!(name, "Turkish" | "Polish") {
                continue; // their letters are not in the table: it is enough that nothing is seen in them
            }
            let turned: Vec<u8> = sentence
                .bytes()
                .map(|byte| match byte {
                    b'a'..=b'z' => (byte - b'a' + 13) % 26 + b'a',
                    b'A'..=b'Z' => (byte - b'A' + 13) % 26 + b'A',
                    _ => byte,
                })
                .collect();
            let turned = Likelihood::of(&turned);
            assert!(turned.is_rot13() && !turned.is_words(), "{name}: {turned:?}");
            let back: Vec<u8> = sentence.bytes().rev().collect();
            let back = Likelihood::of(&back);
            assert!(back.is_reversed() && !back.is_rot13(), "{name}: {back:?}");
        }
    }

    #[test]
    fn code_and_noise_are_neither() {
        let cases = [
            ("code", "if (len > max) { return err; } while (*p++) ctx->buf[i] = 0; fprintf(stderr, fmt);"),
            (
                "base64",
                "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5",
            ),
            ("names", "xkcd wget rsync grep awk sed tmux zsh vim ssh scp curl jq"),
        ];
        for (name, text) in cases {
            let sum = Likelihood::of(text.as_bytes());
            assert!(!sum.is_rot13() && !sum.is_reversed(), "{name}: {sum:?}");
        }
    }
}
