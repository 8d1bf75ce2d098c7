//! Where requests may go: loopback addresses, since this is a load.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::str::FromStr;

/// An ingress on this machine.
#[derive(Clone, Debug)]
pub struct Target {
    /// Where to connect to.
    pub address: SocketAddr,
    /// As it was given, without the scheme; the Host header.
    pub authority: String,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let authority = text
            .strip_prefix("http://")
            .ok_or("an ingress is given as http://HOST:PORT")?
            .trim_end_matches('/');
        if authority.contains('/') || authority.contains('@') {
            return Err("an ingress is given as http://HOST:PORT, without more".to_owned());
        }
        let addresses: Vec<SocketAddr> = authority
            .to_socket_addrs()
            .map_err(|why| format!("{authority}: {why}"))?
            .collect();
        if let Some(foreign) = addresses.iter().find(|one| !one.ip().is_loopback()) {
            return Err(format!(
                "{foreign} is not a loopback address; this is a load, and stays on this machine"
            ));
        }
        let address = addresses.first().ok_or("no address")?;
        Ok(Self {
            address: *address,
            authority: authority.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_taken() {
        for good in [
            "http://127.0.0.1:8080",
            "http://[::1]:80/",
            "http://127.1.2.3:1",
        ] {
            assert!(good.parse::<Target>().is_ok(), "{good}");
        }
        for bad in [
            "http://192.0.2.1:80",
            "http://0.0.0.0:80",
            "http://[2001:db8::1]:80",
            "http://127.0.0.1",
            "127.0.0.1:80",
            "https://127.0.0.1:80",
            "http://127.0.0.1:80/v1",
            "http://a@127.0.0.1:80",
        ] {
            assert!(bad.parse::<Target>().is_err(), "{bad}");
        }
    }
}
