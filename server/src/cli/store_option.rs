//! This module parses the option `--store`, which contains the URL of a PostgreSQL database.

use std::ffi::OsStr;

use clap::builder::TypedValueParser;
use clap::error::ErrorKind;
use clap::{Arg, Command, Error};

use crate::store::PostgresAddress;

/// Parses the URL of a PostgreSQL database. The errors never contain the URL, as the errors of clap's own parsers would,
/// because the URL can contain a password.
#[derive(Debug, Clone)]
pub struct StoreParser;

impl TypedValueParser for StoreParser {
    type Value = PostgresAddress;

    fn parse_ref(&self, command: &Command, _: Option<&Arg>, url: &OsStr) -> Result<PostgresAddress, Error> {
        parse(url).map_err(|cause| {
            let message =
                format!("invalid value for '--store <URL>': {cause}\n\nFor more information, try '--help'.\n");
            Error::raw(ErrorKind::ValueValidation, message).with_cmd(command)
        })
    }
}

/// Parses the URL of a PostgreSQL database. The error never contains the URL.
pub fn parse(url: &OsStr) -> Result<PostgresAddress, String> {
    let url = url.to_str().ok_or("it is not UTF-8")?;
    if !PostgresAddress::is_url(url) {
        return Err("it must begin with postgres://. Pass a database file with --db".to_owned());
    }
    url.parse()
}
