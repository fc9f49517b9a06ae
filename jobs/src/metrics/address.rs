//! Where metrics are served: at this machine alone, unless an address is named.

use std::net::{Ipv4Addr, SocketAddr};

/// Reads an address with a port, or a port alone.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    let port = text.strip_prefix("localhost:").or(text.strip_prefix(':')).unwrap_or(text);
    match (port.parse::<u16>(), text.parse::<SocketAddr>()) {
        (Ok(port), _) => Ok((Ipv4Addr::LOCALHOST, port).into()),
        (_, Ok(address)) => Ok(address),
        _ => Err(format!(
            "{text:?} is neither a port such as 9400 nor an IP address with a port such as 127.0.0.1:9400 or [::1]:9400"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_is_of_this_machine() {
        for text in ["9400", ":9400", "localhost:9400", "127.0.0.1:9400"] {
            assert_eq!(address(text), Ok((Ipv4Addr::LOCALHOST, 9400).into()));
        }
        assert!(address("0.0.0.0:0").is_ok_and(|address| address.ip().is_unspecified()));
        assert!(address("[::1]:9400").is_ok_and(|address| address.ip().is_loopback()));
        for wrong in ["", "host:9400", "127.0.0.1", "70000", "-1"] {
            assert!(address(wrong).is_err(), "{wrong}");
        }
    }
}
