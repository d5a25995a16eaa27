//! Enums that have a number and a name on the wire and in the database.

/// Declares such an enum: the numbers and names are those of the proto's enum, which a test in `rpc` holds.
macro_rules! coded_enum {
    ($(#[$meta:meta])* $name:ident { $($variant:ident = $code:literal $wire:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        #[allow(missing_docs)] // The proto has them.
        pub enum $name {
            $($variant = $code,)+
        }

        impl $name {
            /// Every value, by number.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// Its number on the wire and in the database.
            pub fn code(self) -> i32 {
                self as i32
            }

            /// The value of a number; None for 0 (unspecified) and for unknown ones.
            pub fn from_code(code: i64) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| i64::from(value.code()) == code)
            }

            /// Its name on the wire.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $wire,)+
                }
            }

            /// Its bit in a set of them.
            pub fn bit(self) -> i64 {
                1 << self.code()
            }
        }
    };
}

/// A value's name for people: `TASK_STATUS_IN_PROGRESS` is "in progress".
pub fn words(name: &str) -> String {
    let (_, value) = name.rsplit_once("_STATUS_").or_else(|| name.rsplit_once("_VERDICT_")).unwrap_or(("", name));
    value.to_lowercase().replace('_', " ")
}
