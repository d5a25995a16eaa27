//! This build script compiles the protos in `proto/` to the Rust code that `proto/lib.rs` includes. The crate protox
//! parses the protos, so the build needs no protoc.

#![allow(clippy::print_stdout)] // cargo reads the output of a build script.

mod catalogue;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto/runhub");
    let files = list_proto_files(Path::new("proto/runhub/v1"))?;
    // Keep the comments of the protos in the descriptor set, because `grpcurl describe` shows the comments.
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).include_source_info(true).open_files(files)?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("runhub_descriptor.bin"), compiler.encode_file_descriptor_set())?;
    tonic_prost_build::configure()
        .build_server(false)
        // Use BTreeMap for map fields, because a HashMap encodes equal messages in different orders. Fingerprints and
        // stored responses require that equal messages have equal encodings.
        .btree_map(".")
        .compile_fds(compiler.file_descriptor_set())?;
    fs::write(out.join("catalogue.rs"), catalogue::generate(&compiler.descriptor_pool())?)?;
    let servers = out.join("servers");
    fs::create_dir_all(&servers)?;
    tonic_prost_build::configure()
        .build_client(false)
        .out_dir(servers)
        .extern_path(".runhub.v1", "crate::v1")
        // Replace `SubscribeEventsResponse` with `EncodedResponse`, because the server encodes each event once for all
        // watchers.
        .extern_path(".runhub.v1.SubscribeEventsResponse", "crate::EncodedResponse")
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}

fn list_proto_files(folder: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "proto") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
