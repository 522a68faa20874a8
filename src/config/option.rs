//! What an option is: the entry of a table, the types its values have, and the
//! rules by which a text becomes such a value (Kafka's `ConfigDef`).
//!
//! The messages of a refused value are Kafka's own, because users search for them.

use std::path::PathBuf;

use crate::base::{NodeId, java};

/// The type of an option's value, as DescribeConfigs reports it (`ConfigDef.Type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Boolean,
    String,
    Int,
    Short,
    Long,
    Double,
    List,
    Class,
    Password,
}

impl Kind {
    /// Kafka's name of the type.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Boolean => "BOOLEAN",
            Kind::String => "STRING",
            Kind::Int => "INT",
            Kind::Short => "SHORT",
            Kind::Long => "LONG",
            Kind::Double => "DOUBLE",
            Kind::List => "LIST",
            Kind::Class => "CLASS",
            Kind::Password => "PASSWORD",
        }
    }
}

/// Which values of the type are allowed (`ConfigDef.Validator`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Allowed {
    Any,
    AtLeast(i64),
    Between(i64, i64),
    /// −1 for the codec's own default, or a level within the range.
    MinusOneOrBetween(i64, i64),
    /// A share from 0 to 1.
    Ratio,
    /// For a list: each of its items.
    OneOf(&'static [&'static str]),
    /// `*`, or a list of `partition:broker` (`ThrottledReplicaListValidator`).
    ThrottledReplicas,
}

/// Whether and how a running broker takes a new value (KIP-226).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Only by a restart.
    ReadOnly,
    /// At run time, for all brokers or for one.
    ClusterWide,
    /// At run time, for one topic.
    Topic,
}

/// What Apache Kafka's default is, where it is another than ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KafkaDefault {
    Same,
    Text(&'static str),
    /// Kafka demands a value.
    Required,
    /// Kafka has no such option.
    OurOwn,
}

/// Whether corelog acts on an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    Full,
    /// The value is checked and shown, and nothing else happens; says why.
    None(&'static str),
}

/// One entry of the table.
#[derive(Clone, Copy, Debug)]
pub struct OptionSpec {
    /// Kafka's name.
    pub name: &'static str,
    pub kind: Kind,
    /// What holds when nothing is said; `None` is Java's null.
    pub default: Option<&'static str>,
    pub kafka_default: KafkaDefault,
    pub allowed: Allowed,
    pub change: Change,
    pub effect: Effect,
    /// For a topic option: the broker options that give its default, the first
    /// that is set wins (`ServerTopicConfigSynonyms`). For a broker option: the
    /// ones that stand in when it is not set.
    pub synonyms: &'static [&'static str],
    /// Kafka does not list it (`ConfigDef.defineInternal`).
    pub internal: bool,
    /// One paragraph for users.
    pub doc: &'static str,
}

impl OptionSpec {
    /// An option without default, bounds or synonyms: what an entry starts from.
    pub(super) const fn new(name: &'static str, kind: Kind, doc: &'static str) -> OptionSpec {
        OptionSpec {
            name,
            kind,
            default: None,
            kafka_default: KafkaDefault::Same,
            allowed: Allowed::Any,
            change: Change::ReadOnly,
            effect: Effect::Full,
            synonyms: &[],
            internal: false,
            doc,
        }
    }

    /// Whether the value must not be shown.
    pub fn is_sensitive(&self) -> bool {
        self.kind == Kind::Password
    }

    /// The unit of the value, read from the name, as Kafka's names carry it.
    pub fn unit(&self) -> Option<&'static str> {
        if !matches!(self.kind, Kind::Int | Kind::Short | Kind::Long) {
            return None;
        }
        let words: Vec<&str> = self.name.split('.').collect();
        let last = *words.last()?;
        match last {
            "us" => Some("microseconds"),
            "ms" => Some("milliseconds"),
            "seconds" => Some("seconds"),
            "minutes" => Some("minutes"),
            "hours" => Some("hours"),
            "messages" => Some("records"),
            _ if words.contains(&"bytes") => Some("bytes"),
            _ => None,
        }
    }

    /// The text as Kafka shows it: trimmed, lists without blanks around their
    /// commas, booleans in lower case. Assumes a text that was accepted.
    pub fn canonical(&self, text: &str) -> String {
        match self.kind {
            Kind::Boolean => text.trim().to_ascii_lowercase(),
            Kind::List => list_items(text).join(","),
            Kind::Int | Kind::Short | Kind::Long => text.trim().trim_start_matches('+').to_string(),
            _ => text.trim().to_string(),
        }
    }
}

/// Why a text is no value of an option. Shown behind its name and value.
pub(super) type Reason = String;

/// A text that is refused as the value of an option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    /// `shown` is the text itself, and where it has the type the value as Java prints it: Kafka judges what it read.
    Value { shown: String, reason: Reason },
    /// An item of a list is empty.
    EmptyItem,
}

impl Wrong {
    /// Kafka's words (`ConfigException`).
    pub fn words(&self, name: &str) -> String {
        match self {
            Wrong::Value { shown, reason } => format!("Invalid value {shown} for configuration {name}: {reason}"),
            Wrong::EmptyItem => format!("Configuration '{name}' values must not be empty."),
        }
    }
}

/// A type that options have.
pub(super) trait OptionValue: Sized {
    const KIND: Kind;
    /// Reads a trimmed text.
    fn read(text: &str) -> Result<Self, Reason>;
    /// The value of an option that has neither text nor default.
    fn absent() -> Option<Self> {
        None
    }
}

macro_rules! whole_number {
    ($($ty:ty => $kind:ident $name:literal),*) => {$(
        impl OptionValue for $ty {
            const KIND: Kind = Kind::$kind;
            fn read(text: &str) -> Result<Self, Reason> {
                text.parse().map_err(|_| concat!("Not a number of type ", $name).to_string())
            }
        }
    )*};
}
whole_number!(i16 => Short "SHORT", i32 => Int "INT", i64 => Long "LONG");

impl OptionValue for f64 {
    const KIND: Kind = Kind::Double;
    fn read(text: &str) -> Result<Self, Reason> {
        text.parse().ok().filter(|n: &f64| !n.is_nan()).ok_or_else(|| "Not a number of type DOUBLE".to_string())
    }
}

impl OptionValue for bool {
    const KIND: Kind = Kind::Boolean;
    fn read(text: &str) -> Result<Self, Reason> {
        match () {
            () if text.eq_ignore_ascii_case("true") => Ok(true),
            () if text.eq_ignore_ascii_case("false") => Ok(false),
            () => Err("Expected value to be either true or false".to_string()),
        }
    }
}

impl OptionValue for String {
    const KIND: Kind = Kind::String;
    fn read(text: &str) -> Result<Self, Reason> {
        Ok(text.to_string())
    }
}

impl OptionValue for Vec<String> {
    const KIND: Kind = Kind::List;
    fn read(text: &str) -> Result<Self, Reason> {
        Ok(list_items(text).into_iter().map(str::to_string).collect())
    }
    fn absent() -> Option<Self> {
        Some(Vec::new())
    }
}

impl OptionValue for PathBuf {
    const KIND: Kind = Kind::String;
    fn read(text: &str) -> Result<PathBuf, Reason> {
        Ok(PathBuf::from(text))
    }
}

impl OptionValue for Vec<PathBuf> {
    const KIND: Kind = Kind::List;
    fn read(text: &str) -> Result<Self, Reason> {
        Ok(list_items(text).into_iter().map(PathBuf::from).collect())
    }
    fn absent() -> Option<Self> {
        Some(Vec::new())
    }
}

impl OptionValue for NodeId {
    const KIND: Kind = Kind::Int;
    fn read(text: &str) -> Result<Self, Reason> {
        i32::read(text).map(NodeId)
    }
}

impl<T: OptionValue> OptionValue for Option<T> {
    const KIND: Kind = T::KIND;
    fn read(text: &str) -> Result<Self, Reason> {
        T::read(text).map(Some)
    }
    fn absent() -> Option<Self> {
        Some(None)
    }
}

/// The items of a list, trimmed; the empty text is the empty list.
pub(super) fn list_items(text: &str) -> Vec<&str> {
    match text.trim() {
        "" => Vec::new(),
        text => text.split(',').map(str::trim).collect(),
    }
}

/// Reads the text of one option: its type first, then its bounds.
pub(super) fn read<T: OptionValue>(spec: &OptionSpec, text: &str) -> Result<T, Wrong> {
    let value = T::read(text.trim()).map_err(|reason| Wrong::Value { shown: text.to_string(), reason })?;
    check_allowed(spec, text.trim())?;
    Ok(value)
}

/// The default of an option, which its table entry must give unless the type
/// has a value for "absent".
pub(super) fn read_default<T: OptionValue>(spec: &OptionSpec) -> T {
    match spec.default {
        Some(text) => read(spec, text).unwrap_or_else(|wrong| panic!("default: {}", wrong.words(spec.name))),
        None => T::absent().unwrap_or_else(|| panic!("{} has no default", spec.name)),
    }
}

fn check_allowed(spec: &OptionSpec, text: &str) -> Result<(), Wrong> {
    // Only options of whole numbers carry bounds in whole numbers (a test looks).
    let number = || match text.parse::<i64>() {
        Ok(number) => Ok(number),
        Err(_) => Err(refused(text, format!("Not a number of type {}", spec.kind.name()))),
    };
    let bounded = |min: i64, max: i64| match number()? {
        n if n < min => Err(refused(n, format!("Value must be at least {min}"))),
        n if n > max => Err(refused(n, format!("Value must be no more than {max}"))),
        _ => Ok(()),
    };
    match spec.allowed {
        Allowed::Any => Ok(()),
        Allowed::AtLeast(min) => bounded(min, i64::MAX),
        Allowed::Between(min, max) => bounded(min, max),
        Allowed::MinusOneOrBetween(min, max) => match number()? {
            -1 => Ok(()),
            n if (min..=max).contains(&n) => Ok(()),
            n => Err(refused(n, format!("Value must be between {min} and {max} or equal to -1"))),
        },
        Allowed::Ratio => match text.parse::<f64>() {
            Ok(n) if n < 0.0 => Err(refused(java::double(n), "Value must be at least 0")),
            Ok(n) if n > 1.0 => Err(refused(java::double(n), "Value must be no more than 1")),
            _ => Ok(()),
        },
        Allowed::OneOf(names) => {
            let items = if spec.kind == Kind::List { list_items(text) } else { vec![text] };
            if spec.kind == Kind::List && items.iter().any(|item| item.is_empty()) {
                return Err(Wrong::EmptyItem);
            }
            match items.into_iter().find(|item| !names.contains(item)) {
                Some(item) => Err(refused(item, format!("String must be one of: {}", names.join(", ")))),
                None => Ok(()),
            }
        }
        Allowed::ThrottledReplicas => {
            let items = list_items(text);
            let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            // As Kafka's expression has it: an item may be empty.
            let fits =
                |item: &&str| item.is_empty() || item.split_once(':').is_some_and(|(p, b)| digits(p) && digits(b));
            if items == ["*"] || items.iter().all(fits) {
                return Ok(());
            }
            // Kafka prints the list, Java's way.
            let shown = format!("[{}]", items.join(", "));
            let reason = format!(
                "{} must be the literal '*' or a list of replicas in the following format: \
                 [partitionId]:[brokerId],[partitionId]:[brokerId],...",
                spec.name
            );
            Err(refused(shown, reason))
        }
    }
}

fn refused(shown: impl ToString, reason: impl Into<Reason>) -> Wrong {
    Wrong::Value { shown: shown.to_string(), reason: reason.into() }
}

/// Whether an option is known and its values are lists, which can be appended to.
pub fn is_list(table: &'static [OptionSpec], name: &str) -> bool {
    find(table, name).is_some_and(|spec| spec.kind == Kind::List)
}

/// The entry of a name.
pub(super) fn find(table: &'static [OptionSpec], name: &str) -> Option<&'static OptionSpec> {
    table.iter().find(|spec| spec.name == name)
}

/// Declares a structure of options and its table from the same lines. An entry:
/// `field: type = "kafka.name" { key: value, ... } "prose";` where the keys are
/// the fields of [`OptionSpec`].
macro_rules! options {
    (
        $(#[$meta:meta])* $name:ident, $table:ident,
        { $( $field:ident: $ty:ty = $option:literal { $($key:ident: $value:expr),* $(,)? } $doc:literal; )* }
        also { $( $(#[$extra_meta:meta])* $extra:ident: $extra_ty:ty = $extra_value:expr, )* }
    ) => {
        $(#[$meta])*
        pub struct $name {
            $( #[doc = concat!("`", $option, "`. ", $doc)] pub $field: $ty, )*
            $( $(#[$extra_meta])* pub $extra: $extra_ty, )*
        }

        pub(super) static $table: &[$crate::config::option::OptionSpec] = &[
            $( $crate::config::option::OptionSpec {
                $($key: $value,)*
                ..$crate::config::option::OptionSpec::new(
                    $option, <$ty as $crate::config::option::OptionValue>::KIND, $doc)
            }, )*
        ];

        impl $name {
            /// The structure when nothing is said.
            pub(super) fn from_table() -> $name {
                let spec = |name| $crate::config::option::find($table, name).expect("declared together");
                $name {
                    $( $field: $crate::config::option::read_default(spec($option)), )*
                    $( $extra: $extra_value, )*
                }
            }

            /// Sets one option by its name. `None`: there is no such option.
            pub(super) fn set(&mut self, name: &str, text: &str) -> Option<Result<(), $crate::config::option::Wrong>> {
                let spec = $crate::config::option::find($table, name)?;
                match name {
                    $( $option => Some($crate::config::option::read(spec, text).map(|value| self.$field = value)), )*
                    _ => None,
                }
            }
        }
    };
}
pub(super) use options;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_fit_the_types_they_are_on() {
        for spec in crate::config::broker_options().iter().chain(crate::config::topic_options()) {
            let whole = matches!(spec.kind, Kind::Int | Kind::Short | Kind::Long);
            let fits = match spec.allowed {
                Allowed::Any => true,
                Allowed::AtLeast(_) | Allowed::Between(..) | Allowed::MinusOneOrBetween(..) => whole,
                Allowed::Ratio => spec.kind == Kind::Double,
                Allowed::OneOf(_) => matches!(spec.kind, Kind::String | Kind::List),
                Allowed::ThrottledReplicas => spec.kind == Kind::List,
            };
            assert!(fits, "{}", spec.name);
            assert!(spec.doc.ends_with('.') && !spec.doc.contains('\n'), "{}: one paragraph", spec.name);
        }
    }

    #[test]
    fn names_are_declared_once() {
        for table in [crate::config::broker_options(), crate::config::topic_options()] {
            let mut names: Vec<_> = table.iter().map(|spec| spec.name).collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), table.len());
        }
    }

    #[test]
    fn shown_text_is_canonical() {
        let spec = |kind| OptionSpec::new("x", kind, "");
        assert_eq!(spec(Kind::List).canonical(" compact , delete "), "compact,delete");
        assert_eq!(spec(Kind::Boolean).canonical("TRUE"), "true");
        assert_eq!(spec(Kind::Long).canonical(" +7"), "7");
        assert_eq!(spec(Kind::String).canonical(" a b "), "a b");
    }
}
