//! Certificates of the moment, and peers that speak TLS.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use chaos::proxy::event::{Event, What};
use chaos::proxy::tls::{Originate, Terminate};
use chaos::proxy::{Proxy, ProxyConfig, TlsConfig};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast::Receiver;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use super::proxy_support::{DEADLINE, connect};

/// The name that every certificate here is for unless it is said otherwise.
pub const NAME: &str = "service.test";

/// One that issues certificates into a folder of its own.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

/// Paths of a certificate and its key.
#[derive(Debug, Clone)]
pub struct Issued {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    pub fn new() -> Authority {
        // Authorities of the same name would be taken for each other.
        static MADE: AtomicU32 = AtomicU32::new(0);
        let mut params = CertificateParams::new(Vec::new()).expect("names");
        let name = format!("authority {}", MADE.fetch_add(1, Ordering::Relaxed));
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("an authority");
        let authority = Authority { issuer, folder: TempDir::new().expect("a folder") };
        authority.write("ca.pem", &authority.issuer.pem());
        authority
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    /// Puts a file into the folder; its path.
    pub fn write(&self, file: &str, text: &str) -> String {
        std::fs::write(self.path(file), text).expect("a file");
        self.path(file).to_string_lossy().into_owned()
    }

    /// Path of the authority's own certificate.
    pub fn ca(&self) -> String {
        self.path("ca.pem").to_string_lossy().into_owned()
    }

    /// A certificate for `name` and its key, in files that are named after it.
    pub fn issue(&self, name: &str) -> Issued {
        let params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Issued {
            certificate: self.write(&format!("{name}.pem"), &certificate.pem()),
            key: self.write(&format!("{name}.key"), &key.serialize_pem()),
        }
    }

    /// What a proxy meets clients with.
    pub fn terminate(&self) -> Terminate {
        let Issued { certificate, key } = self.issue(NAME);
        Terminate { certificate, key }
    }

    /// As what a proxy dials a server that has a certificate of this authority.
    pub fn originate(&self) -> Originate {
        Originate { server_name: NAME.into(), ca: Some(self.ca()), insecure: false }
    }

    /// A client that trusts this authority alone.
    pub async fn connect(&self, address: SocketAddr) -> io::Result<client::TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.ca()).expect("a certificate")).expect("an authority");
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(NAME).expect("a name");
        let handshake = TlsConnector::from(Arc::new(config)).connect(name, connect(address).await);
        timeout(DEADLINE, handshake).await.expect("a handshake in time")
    }

    fn acceptor(&self) -> TlsAcceptor {
        let Issued { certificate, key } = self.issue(NAME);
        let config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(
                vec![CertificateDer::from_pem_file(certificate).expect("a certificate")],
                PrivateKeyDer::from_pem_file(key).expect("a key"),
            );
        TlsAcceptor::from(Arc::new(config.expect("a certificate and its key")))
    }

    /// A server that does with each connection that was agreed upon what `serve` says.
    pub async fn serve<F>(
        &self,
        serve: impl Fn(server::TlsStream<TcpStream>) -> F + Send + 'static,
    ) -> SocketAddr
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let acceptor = self.acceptor();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                // A proxy that does not trust us is what some tests are about.
                if let Ok(stream) = acceptor.accept(socket).await {
                    tokio::spawn(serve(stream));
                }
            }
        });
        address
    }

    /// A server that answers each byte with itself and an end with its own.
    pub async fn echo(&self) -> SocketAddr {
        self.serve(|stream| async move {
            let (mut reading, mut writing) = tokio::io::split(stream);
            // A reset is what some tests cause here.
            let _ = tokio::io::copy(&mut reading, &mut writing).await;
            let _ = writing.shutdown().await;
        })
        .await
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// A proxy before `upstream`.
pub fn config(upstream: SocketAddr, tls: TlsConfig) -> ProxyConfig {
    ProxyConfig {
        name: "link".into(),
        listen: "127.0.0.1:0".into(),
        upstream: upstream.to_string(),
        seed: 7,
        protocol: None,
        udp: None,
        tls: Some(tls),
        dial_failure: None,
    }
}

pub async fn proxy(upstream: SocketAddr, tls: TlsConfig) -> Proxy {
    Proxy::start(config(upstream, tls)).await.expect("a proxy")
}

pub fn terminating(authority: &Authority) -> TlsConfig {
    TlsConfig { terminate: Some(authority.terminate()), ..TlsConfig::default() }
}

pub fn originating(authority: &Authority) -> TlsConfig {
    TlsConfig { originate: Some(authority.originate()), ..TlsConfig::default() }
}

pub fn both(authority: &Authority) -> TlsConfig {
    TlsConfig { terminate: Some(authority.terminate()), ..originating(authority) }
}

/// Sends `bytes` and reads as many back.
pub async fn exchange(client: &mut (impl AsyncRead + AsyncWrite + Unpin), bytes: &[u8]) {
    client.write_all(bytes).await.expect("written");
    client.flush().await.expect("sent");
    assert_eq!(some(client, bytes.len()).await, bytes);
}

/// The next `count` bytes.
pub async fn some(client: &mut (impl AsyncRead + Unpin), count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    timeout(DEADLINE, client.read_exact(&mut bytes)).await.expect("bytes in time").expect("bytes");
    bytes
}

/// All bytes up to the end; an end without `close_notify` is an error with TLS.
pub async fn rest(client: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    timeout(DEADLINE, client.read_to_end(&mut bytes)).await.expect("an end in time")?;
    Ok(bytes)
}

/// The next event that is of interest.
pub async fn event<T>(events: &mut Receiver<Event>, interest: impl Fn(What) -> Option<T>) -> T {
    let waited = timeout(DEADLINE, async {
        loop {
            let event = events.recv().await.expect("the proxy lives");
            if let Some(found) = interest(event.what) {
                return found;
            }
        }
    });
    waited.await.expect("the event never came")
}
