//! From the paths of a TLS setting to what rustls works with. Reads files and decides nothing else.
//!
//! The provider is named each time: a process in which another one is installed behaves the same.

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, DigitallySignedStruct, InconsistentKeys, RootCertStore, ServerConfig, SignatureScheme,
};

use super::{Error, Originate, Reason, Terminate};

/// Largest file that is read.
pub(super) const BYTES_MAX: u64 = 1024 * 1024;

const CERTIFICATE: &str = "tls.terminate.certificate";
const KEY: &str = "tls.terminate.key";
const NAME: &str = "tls.originate.server_name";
const CA: &str = "tls.originate.ca";

/// How clients are met.
pub(super) fn server_config(asked: &Terminate) -> Result<Arc<ServerConfig>, Error> {
    let chain = certificates(CERTIFICATE, &asked.certificate)?;
    let key = private_key(&asked.key)?;
    let wrong_certificate =
        |reason: String| Error::new(CERTIFICATE, &asked.certificate, Reason::BadCertificate(reason));
    let wrong_key = |reason| Error::new(KEY, &asked.key, reason);
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("the provider has suites for every version")
        .with_no_client_auth()
        .with_single_cert(chain, key);
    let mut config = config.map_err(|error| match error {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            wrong_key(Reason::WrongKey { certificate: asked.certificate.clone() })
        }
        rustls::Error::InvalidCertificate(error) => wrong_certificate(error.to_string()),
        other => wrong_key(Reason::BadKey(other.to_string())),
    })?;
    // A client that closes without having read its tickets resets the connection, and what it sent last is lost.
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// As what the upstream is dialled.
pub(super) fn client_config(asked: &Originate) -> Result<(Arc<ClientConfig>, ServerName<'static>), Error> {
    let name = ServerName::try_from(asked.server_name.clone())
        .map_err(|_| Error::new(NAME, &asked.server_name, Reason::BadName))?;
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("the provider has suites for every version");
    let builder = match &asked.ca {
        Some(path) if asked.insecure => return Err(Error::new(CA, path, Reason::Contradiction)),
        None if asked.insecure => {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider())))
        }
        Some(path) => builder.with_root_certificates(authorities(path)?),
        None => builder.with_root_certificates(system_authorities(&asked.server_name)?),
    };
    Ok((Arc::new(builder.with_no_client_auth()), name))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// What stands in a file that a caller named: it may be anything, and must neither wait nor take what others wait for.
fn read(field: &'static str, path: &str) -> Result<Vec<u8>, Error> {
    let wrong = |reason| Error::new(field, path, reason);
    let unreadable = |error| wrong(Reason::Unreadable(error));
    // Opening some devices does something.
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(wrong(Reason::NoFile));
    }
    // What stood there may be a pipe by now, which would wait for its writer.
    let nonblocking = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let file = nonblocking.map_err(unreadable)?;
    let found = file.metadata().map_err(unreadable)?;
    if !found.is_file() {
        return Err(wrong(Reason::NoFile));
    }
    // The files of /proc have no size, and reading one such as /proc/kmsg waits for news and takes it from its reader.
    if found.len() == 0 {
        return Err(wrong(Reason::Empty));
    }
    let mut bytes = Vec::new();
    file.take(BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > BYTES_MAX { Err(wrong(Reason::TooLarge)) } else { Ok(bytes) }
}

fn certificates(field: &'static str, path: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let wrong = |reason| Error::new(field, path, reason);
    let bytes = read(field, path)?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match read {
        Ok(found) if found.is_empty() => Err(wrong(Reason::NoCertificate)),
        Ok(found) => Ok(found),
        Err(error) => Err(wrong(Reason::NoPem(told(&error)))),
    }
}

fn private_key(path: &str) -> Result<PrivateKeyDer<'static>, Error> {
    let bytes = read(KEY, path)?;
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| {
        let reason = match error {
            pem::Error::NoItemsFound => Reason::NoKey,
            other => Reason::NoPem(told(&other)),
        };
        Error::new(KEY, path, reason)
    })
}

/// Without a line of the file: it may be one of a key.
fn told(error: &pem::Error) -> String {
    match error {
        pem::Error::MissingSectionEnd { .. } => "a section has no end".into(),
        pem::Error::IllegalSectionStart { .. } => "a section begins with a line that is wrong".into(),
        pem::Error::Base64Decode(_) => "what stands in a section is not Base64".into(),
        _ => "it cannot be read as such".into(),
    }
}

fn authorities(path: &str) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(CA, path)? {
        let added = roots.add(certificate);
        added.map_err(|error| Error::new(CA, path, Reason::BadCertificate(error.to_string())))?;
    }
    Ok(roots)
}

fn system_authorities(name: &str) -> Result<RootCertStore, Error> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Systems carry some that are too old to be understood.
    let (usable, _) = roots.add_parsable_certificates(found.certs);
    if usable > 0 {
        return Ok(roots);
    }
    let why = found.errors.first().map_or("it trusts none".to_owned(), ToString::to_string);
    Err(Error::new(NAME, name, Reason::NoSystemAuthorities(why)))
}

/// Takes every certificate. That the server has the key of the one it shows is still checked.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
