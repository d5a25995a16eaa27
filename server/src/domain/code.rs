//! Enums whose values have a number and a name in the API and a number in the database.

/// Declares such an enum. Its numbers and names are those of the enum in the proto; a test in `rpc` compares them.
macro_rules! coded_enum {
    ($(#[$meta:meta])* $name:ident { $($variant:ident = $code:literal $wire:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        #[allow(missing_docs)] // The proto documents them.
        pub enum $name {
            $($variant = $code,)+
        }

        impl $name {
            /// Every value, by number.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// Returns the value's number in the API and in the database.
            pub fn code(self) -> i32 {
                self as i32
            }

            /// Returns the value with this number, or None for 0 (unspecified) and for unknown numbers.
            pub fn from_code(code: i64) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| i64::from(value.code()) == code)
            }

            /// Returns the value's name in the API.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $wire,)+
                }
            }

            /// Returns the value's bit in a bit mask of values.
            pub fn bit(self) -> i64 {
                1 << self.code()
            }
        }
    };
}

/// Returns a value's name without the prefix of its enum: "IN_PROGRESS" for `TASK_STATUS_IN_PROGRESS`.
pub fn short_name(name: &str) -> &str {
    let parts = name.rsplit_once("_STATUS_").or_else(|| name.rsplit_once("_VERDICT_"));
    parts.map_or(name, |(_, value)| value)
}

/// Returns a value's name as words: "in progress" for `TASK_STATUS_IN_PROGRESS`.
pub fn words(name: &str) -> String {
    short_name(name).to_lowercase().replace('_', " ")
}
