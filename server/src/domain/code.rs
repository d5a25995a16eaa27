//! This module defines enums whose values have a number and a name in the API, and whose numbers the database stores.

/// Declares an enum with a number and an API name for each value. Tests in `rpc/convert.rs` check that the enum and
/// the proto define the same numbers and names.
macro_rules! coded_enum {
    ($(#[$meta:meta])* $name:ident { $($variant:ident = $code:literal $wire:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        #[allow(missing_docs)] // The proto documents them.
        pub enum $name {
            $($variant = $code,)+
        }

        impl $name {
            /// Every value of the enum, in ascending order of the numbers.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// Returns the value's number in the API and in the database.
            pub fn code(self) -> i32 {
                self as i32
            }

            /// Returns the value with the number `code`, or None if `code` is 0 (unspecified) or unknown.
            pub fn from_code(code: i64) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| i64::from(value.code()) == code)
            }

            /// Returns the value's name in the API, for example `TASK_STATUS_PENDING`.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $wire,)+
                }
            }

            /// Returns the bit that represents the value in a bit mask.
            pub fn bit(self) -> i64 {
                1 << self.code()
            }
        }
    };
}

/// Returns the API name of a status or verdict without the prefix of the enum, for example `IN_PROGRESS` for
/// `TASK_STATUS_IN_PROGRESS`.
pub fn short_name(name: &str) -> &str {
    let parts = name.rsplit_once("_STATUS_").or_else(|| name.rsplit_once("_VERDICT_"));
    parts.map_or(name, |(_, value)| value)
}

/// Returns the API name of a status or verdict as lower-case words, for example `in progress` for
/// `TASK_STATUS_IN_PROGRESS`.
pub fn lowercase_words(name: &str) -> String {
    short_name(name).to_lowercase().replace('_', " ")
}
