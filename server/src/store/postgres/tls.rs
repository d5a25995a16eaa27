//! This module encrypts the connections to PostgreSQL.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use tokio_postgres_rustls::MakeRustlsConnect;

/// Specifies what the server verifies about the certificate of the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verification {
    /// Nothing. The connection is encrypted, but the database can be an impostor.
    Nothing,
    /// A trusted authority has signed the certificate.
    Authority,
    /// A trusted authority has signed the certificate, and the certificate is for the host in the address.
    AuthorityAndName,
}

/// The files with certificates and keys, in PEM format.
#[derive(Debug, Clone, Default)]
pub(super) struct TlsFiles {
    /// The certificates of the trusted authorities. Default: those that the operating system trusts.
    pub root_certificates: Option<PathBuf>,
    /// The certificate with which the server authenticates itself.
    pub certificate: Option<PathBuf>,
    /// The private key of `certificate`.
    pub key: Option<PathBuf>,
}

/// Returns the connector that opens TLS connections to the database. Fails if a file can't be read.
pub(super) fn connector(verification: Verification, files: &TlsFiles) -> Result<MakeRustlsConnect, String> {
    let provider = Arc::new(ring::default_provider());
    let verifier = verifier(verification, files, &provider)?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let config = match (&files.certificate, &files.key) {
        (None, None) => builder.with_no_client_auth(),
        (Some(certificate), Some(key)) => {
            let chain = read_certificates(certificate)?;
            let key = PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable(key, &error))?;
            builder.with_client_auth_cert(chain, key).map_err(|error| error.to_string())?
        }
        _ => return Err("sslcert and sslkey must be set together".to_owned()),
    };
    Ok(MakeRustlsConnect::new(config))
}

fn verifier(
    verification: Verification,
    files: &TlsFiles,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, String> {
    if verification == Verification::Nothing {
        return Ok(Arc::new(LaxVerifier { authority: None, provider: Arc::clone(provider) }));
    }
    let roots = Arc::new(read_roots(files.root_certificates.as_deref())?);
    let strict = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider)).build();
    let strict = strict.map_err(|error| format!("no root certificate can be used: {error}: set sslrootcert"))?;
    Ok(match verification {
        Verification::AuthorityAndName => strict,
        _ => Arc::new(LaxVerifier { authority: Some(strict), provider: Arc::clone(provider) }),
    })
}

fn read_roots(file: Option<&Path>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let certificates = match file {
        Some(file) => read_certificates(file)?,
        None => rustls_native_certs::load_native_certs().certs,
    };
    roots.add_parsable_certificates(certificates);
    Ok(roots)
}

fn read_certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates = CertificateDer::pem_file_iter(file).and_then(Iterator::collect);
    let certificates: Vec<_> = certificates.map_err(|error| unreadable(file, &error))?;
    if certificates.is_empty() {
        Err(unreadable(file, &"it has no certificate in PEM format"))
    } else {
        Ok(certificates)
    }
}

fn unreadable(file: &Path, cause: &impl std::fmt::Display) -> String {
    format!("can't read {}: {cause}", file.display())
}

/// Returns the cause and the remedy if the database has a certificate of an unknown authority. The library only says
/// "UnknownIssuer".
pub(super) fn explain(cause: &(dyn std::error::Error + 'static)) -> Option<&'static str> {
    let error = cause.downcast_ref::<std::io::Error>()?.get_ref()?.downcast_ref::<Error>()?;
    let is_unknown = matches!(error, Error::InvalidCertificate(CertificateError::UnknownIssuer));
    is_unknown.then_some(
        "no trusted authority has signed the certificate of the database: set sslrootcert to the certificate of its authority",
    )
}

/// Verifies less than the standard verifier of TLS: no name, or nothing at all.
#[derive(Debug)]
struct LaxVerifier {
    /// Verifies the authority and the name. If the value is None, the certificate is not verified.
    authority: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for LaxVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(authority) = &self.authority else { return Ok(ServerCertVerified::assertion()) };
        match authority.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // The name is checked after the authority.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
