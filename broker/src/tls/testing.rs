//! Certificates for tests.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
};
use std::sync::OnceLock;

/// A root that signs the others: certificate and key, PEM.
pub(crate) fn authority() -> &'static (String, String) {
    static AUTHORITY: OnceLock<(String, String)> = OnceLock::new();
    AUTHORITY.get_or_init(|| {
        let params = root();
        let key = KeyPair::generate().unwrap();
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    })
}

fn root() -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "Test CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

fn signed(params: &CertificateParams) -> (rcgen::Certificate, String) {
    let (_, key) = authority();
    let issuer = Issuer::new(root(), KeyPair::from_pem(key).unwrap());
    let own = KeyPair::generate().unwrap();
    (params.signed_by(&own, &issuer).unwrap(), own.serialize_pem())
}

/// A certificate for `localhost` and its key, PEM.
pub(crate) fn server() -> (String, String) {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
    let (certificate, key) = signed(&params);
    (certificate.pem(), key)
}

/// The certificate of a client with this common name, and further names; and its key, PEM.
pub(crate) fn client(name: &str) -> (rcgen::Certificate, String) {
    let mut params = CertificateParams::new(vec!["one.example".to_owned()]).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "client");
    params.distinguished_name.push(DnType::CommonName, name);
    params.subject_alt_names.push(SanType::IpAddress("10.0.0.9".parse().unwrap()));
    params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
    signed(&params)
}
