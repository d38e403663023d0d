//! Base URLs: which addresses a provider may have, and their one normal form.
//!
//! Only what the text shows is judged here; what a name resolves to is known when the connection is made.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use reqwest::Url;

use super::ProviderKind;

/// Endpoints that people paste along with the base URL.
const ENDPOINTS: [&str; 5] = ["/chat/completions", "/completions", "/responses", "/messages", "/models"];

/// Names under which clouds serve their machines' credentials.
const METADATA_NAMES: [&str; 5] =
    ["metadata.google.internal", "metadata.goog", "metadata", "instance-data", "instance-data.ec2.internal"];

/// The normal form of a provider's address, as the vendor's own SDK takes it: OpenAI kinds with `/v1`,
/// Anthropic and Gemini without a version; no slash at the end.
///
/// For OpenAI kinds the form of cproxy 1.x is taken too: an address without a path gets `/v1`. Other paths
/// (`/api/v1`, `/openai/deployments/x`) stay. An endpoint at the end (`/chat/completions`) is cut off.
///
/// # Errors
///
/// Why the address is refused, in words that repeat no credential: another scheme than http and https, a user
/// name or password, a query, a fragment, a cloud's metadata service in any spelling, or plain http to
/// anything but this machine or a private network.
pub fn normalise(kind: ProviderKind, text: &str) -> Result<String, String> {
    let url = checked(text)?;
    let host = url.host_str().unwrap_or_default().trim_end_matches('.').to_ascii_lowercase();
    Ok(format!("{}{}", url.origin().ascii_serialization(), normal_path(kind, &host, url.path())))
}

/// The normal form of the address of another server, such as a collector of metrics: no slash at the end.
///
/// # Errors
///
/// As for [`normalise`].
pub fn server(text: &str) -> Result<String, String> {
    let url = checked(text)?;
    Ok(format!("{}{}", url.origin().ascii_serialization(), url.path().trim_end_matches('/')))
}

/// The address, if something may be sent there.
fn checked(text: &str) -> Result<Url, String> {
    let text = text.trim();
    let url = Url::parse(text).map_err(|error| match text.contains("://") {
        true => format!("not a URL: {error}"),
        false => "not a URL; it starts with https:// (or http:// for a server of your own)".to_owned(),
    })?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("the scheme is \"{}\"; only http and https are spoken", url.scheme()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("a URL must not hold a user name or password; use api_key_env or api_key_file".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(
            "a base URL has no query and no fragment; cut it off from the \"?\" or \"#\" on".to_owned()
        );
    }
    let host = url.host_str().unwrap_or_default().trim_end_matches('.').to_ascii_lowercase();
    let place = place(&host);
    match place {
        Place::Metadata => {
            return Err(
                "the address is that of a cloud's metadata service, which hands out credentials".to_owned()
            );
        }
        Place::Nowhere => return Err("the address is no server's (empty, multicast or broadcast)".to_owned()),
        Place::Far if url.scheme() == "http" => {
            return Err("plain http would send the key and the prompts unencrypted; use https \
                        (http is for this machine and private networks)"
                .to_owned());
        }
        Place::Far | Place::Near => {}
    }
    Ok(url)
}

/// Whether the address is plain http to another machine of a private network: allowed, and worth a warning.
pub fn is_unencrypted_beyond_this_machine(url: &str) -> bool {
    let Ok(url) = Url::parse(url) else { return false };
    let host = url.host_str().unwrap_or_default();
    let this_machine = match ip(host) {
        Some(ip) => ip.is_loopback() || ip.is_unspecified(),
        None => host == "localhost" || host.ends_with(".localhost"),
    };
    url.scheme() == "http" && !this_machine
}

/// The path in its normal form.
fn normal_path<'p>(kind: ProviderKind, host: &str, path: &'p str) -> std::borrow::Cow<'p, str> {
    let mut path = path.trim_end_matches('/');
    for endpoint in ENDPOINTS {
        if let Some(base) = path.strip_suffix(endpoint) {
            path = base.trim_end_matches('/');
            break;
        }
    }
    match kind {
        ProviderKind::Anthropic => path.strip_suffix("/v1").unwrap_or(path).into(),
        ProviderKind::Gemini => {
            path.strip_suffix("/v1beta").or_else(|| path.strip_suffix("/v1")).unwrap_or(path).into()
        }
        ProviderKind::Openai | ProviderKind::Openrouter | ProviderKind::Local => match path {
            "" if host == "openrouter.ai" => "/api/v1".into(),
            "" => "/v1".into(),
            "/api" if host == "openrouter.ai" => "/api/v1".into(),
            other => other.into(),
        },
    }
}

/// Where a host is, as far as its text shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// This machine, or a private network.
    Near,
    /// The internet.
    Far,
    /// A cloud's metadata service.
    Metadata,
    /// No server can be there.
    Nowhere,
}

fn place(host: &str) -> Place {
    match ip(host) {
        Some(IpAddr::V4(ip)) => place_v4(ip),
        Some(IpAddr::V6(ip)) => place_v6(ip),
        None if host.is_empty() => Place::Nowhere,
        None if METADATA_NAMES.contains(&host) => Place::Metadata,
        None => {
            // Names that the public DNS doesn't have: RFC 6761, 6762, 8375 and the one ICANN reserved.
            let private = [".localhost", ".local", ".lan", ".internal", ".home.arpa", ".intranet", ".home"];
            let near = !host.contains('.') || private.iter().any(|end| host.ends_with(end));
            if near { Place::Near } else { Place::Far }
        }
    }
}

/// The address in a URL's host. The URL parser (WHATWG) has already turned the decimal, hex and octal
/// spellings of IPv4 into the usual one; the IPv6 forms that stand for IPv4 are unwrapped here.
fn ip(host: &str) -> Option<IpAddr> {
    let ip: IpAddr = host.trim_start_matches('[').trim_end_matches(']').parse().ok()?;
    let IpAddr::V6(v6) = ip else { return Some(ip) };
    let [a, b, c, d, e, f, high, low] = v6.segments();
    let embedded = matches!(
        [a, b, c, d, e, f],
        [0, 0, 0, 0, 0, 0xffff] | [0, 0, 0, 0, 0xffff, 0] | [0x64, 0xff9b, 0, 0, 0, 0]
    ) || ([a, b, c, d, e, f] == [0; 6] && high != 0);
    if !embedded {
        return Some(ip);
    }
    let [[h0, h1], [l0, l1]] = [high.to_be_bytes(), low.to_be_bytes()];
    Some(IpAddr::V4(Ipv4Addr::new(h0, h1, l0, l1)))
}

fn place_v4(ip: Ipv4Addr) -> Place {
    let [a, b, ..] = ip.octets();
    // AWS, Azure, Google and most others are link-local; Azure's wire server, Alibaba's and Oracle's are not.
    let metadata = ip.is_link_local()
        || [[168, 63, 129, 16], [100, 100, 100, 200], [192, 0, 0, 192]].contains(&ip.octets());
    if metadata {
        Place::Metadata
    } else if ip.is_multicast() || ip.is_broadcast() {
        Place::Nowhere
    } else if ip.is_loopback()
        || ip.is_private()
        || ip.is_unspecified()
        || (a == 100 && (64..128).contains(&b))
    {
        Place::Near // 100.64.0.0/10 is carrier-grade NAT (RFC 6598), and what overlay networks use
    } else {
        Place::Far
    }
}

fn place_v6(ip: Ipv6Addr) -> Place {
    let segments = ip.segments();
    let [a, b, .., y, z] = segments;
    // AWS's fd00:ec2::/32, Google's fd20:ce::254, OpenStack's fe80::a9fe:a9fe.
    let metadata = (a == 0xfd00 && b == 0xec2)
        || (a == 0xfd20 && b == 0xce && z == 0x254)
        || (ip.is_unicast_link_local() && y == 0xa9fe && z == 0xa9fe);
    if metadata {
        Place::Metadata
    } else if ip.is_multicast() {
        Place::Nowhere
    } else if ip.is_loopback() || ip.is_unspecified() || ip.is_unique_local() || ip.is_unicast_link_local() {
        Place::Near
    } else {
        Place::Far
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use ProviderKind::*;

    #[test]
    fn base_urls_end_up_as_the_vendors_sdk_takes_them() {
        for (kind, written, normal) in [
            (Openai, "https://api.openai.com", "https://api.openai.com/v1"),
            (Openai, "https://api.openai.com/v1/", "https://api.openai.com/v1"),
            (Openai, "https://api.openai.com/v1/chat/completions", "https://api.openai.com/v1"),
            (Openai, "https://x.azure.com/openai/deployments/y", "https://x.azure.com/openai/deployments/y"),
            (Openrouter, "https://openrouter.ai/api", "https://openrouter.ai/api/v1"),
            (Openrouter, "https://openrouter.ai/api/v1", "https://openrouter.ai/api/v1"),
            (Local, "http://localhost:11434", "http://localhost:11434/v1"),
            (Local, "http://[::1]:8080//", "http://[::1]:8080/v1"),
            (Local, "http://ollama:11434/v1", "http://ollama:11434/v1"),
            (Anthropic, "https://api.anthropic.com/v1", "https://api.anthropic.com"),
            (Anthropic, "https://API.anthropic.com/v1/messages", "https://api.anthropic.com"),
            (Anthropic, "https://proxy.example/anthropic/", "https://proxy.example/anthropic"),
            (
                Gemini,
                "https://generativelanguage.googleapis.com/v1beta",
                "https://generativelanguage.googleapis.com",
            ),
        ] {
            assert_eq!(normalise(kind, written).as_deref(), Ok(normal), "{written}");
            assert_eq!(normalise(kind, normal).as_deref(), Ok(normal), "normal forms stay: {normal}");
        }
    }

    #[test]
    fn metadata_services_are_refused_in_every_spelling() {
        for written in [
            "http://169.254.169.254",
            "http://2852039166/",
            "http://0xa9fea9fe",
            "http://0xA9.0xFE.0xA9.0xFE",
            "http://0251.0376.0251.0376",
            "http://169.254.43518",
            "http://[::ffff:169.254.169.254]",
            "http://[::ffff:a9fe:a9fe]/v1",
            "http://[::169.254.169.254]",
            "http://[64:ff9b::a9fe:a9fe]",
            "http://[fd00:ec2::254]",
            "http://[fd20:ce::254]",
            "http://１６９.254.169.254",
            "https://metadata.google.internal",
            "https://METADATA.google.internal./computeMetadata",
            "http://100.100.100.200",
            "http://168.63.129.16",
        ] {
            let refused = normalise(Local, written).unwrap_err();
            assert!(refused.contains("metadata"), "{written}: {refused}");
        }
    }

    #[test]
    fn plain_http_stays_on_this_machine_and_its_network() {
        for near in [
            "127.0.0.1",
            "127.8.9.1",
            "localhost",
            "10.1.2.3",
            "192.168.0.9",
            "[fd12::1]",
            "100.64.0.1",
            "gpu.local",
            "0.0.0.0",
        ] {
            assert!(normalise(Local, &format!("http://{near}:8000")).is_ok(), "{near}");
        }
        for far in ["8.8.8.8", "api.openai.com", "[2606:4700::1]", "localhost.example.com", "11.0.0.1"] {
            assert!(
                normalise(Openai, &format!("http://{far}")).unwrap_err().contains("unencrypted"),
                "{far}"
            );
            assert!(normalise(Openai, &format!("https://{far}")).is_ok(), "{far}");
        }
    }

    #[test]
    fn a_refusal_repeats_no_password() {
        let refused = normalise(Openai, "https://me:hunter2@api.openai.com/v1").unwrap_err();
        assert!(!refused.contains("hunter2") && refused.contains("user name"), "{refused}");
        for written in [
            "https://a.example/v1?key=hunter2",
            "ftp://a.example",
            "a.example:80",
            "https://",
            "",
            "https://#",
        ] {
            let refused = normalise(Openai, written).unwrap_err();
            assert!(!refused.contains("hunter2"), "{refused}");
        }
    }

    #[test]
    fn http_to_another_machine_is_noticed() {
        assert!(is_unencrypted_beyond_this_machine("http://192.168.1.5:8000/v1"));
        assert!(!is_unencrypted_beyond_this_machine("http://127.0.0.1:8000/v1"));
        assert!(!is_unencrypted_beyond_this_machine("https://192.168.1.5/v1"));
    }
}
