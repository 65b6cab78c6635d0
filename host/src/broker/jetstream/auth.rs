//! Proves to the server who we are: the answer to the nonce of its greeting.

use async_nats::AuthError;

use super::options::Auth;

/// The first and last lines of the two parts of a credentials file.
const JWT_LINES: (&str, &str) = ("BEGIN NATS USER JWT", "END NATS USER JWT");
const SEED_LINES: (&str, &str) = ("BEGIN USER NKEY SEED", "END USER NKEY SEED");

/// Checks what can be checked before there is a server: the form of a seed and of credentials.
pub(super) fn check(auth: &Auth) -> Result<(), String> {
    match auth {
        Auth::None | Auth::Token(_) | Auth::UserPassword { .. } => Ok(()),
        Auth::Nkey(seed) => key_pair(seed).map(drop),
        Auth::Credentials(text) => read_creds(text).and_then(|(_, seed)| key_pair(&seed)).map(drop),
    }
}

/// The answer to the server's nonce.
pub(super) fn answer(auth: &Auth, nonce: &[u8]) -> Result<async_nats::Auth, AuthError> {
    let mut answer = async_nats::Auth::new();
    match auth {
        Auth::None => {}
        Auth::Token(token) => answer.token = Some(token.clone()),
        Auth::UserPassword { user, password } => {
            answer.username = Some(user.clone());
            answer.password = Some(password.clone());
        }
        Auth::Nkey(seed) => {
            let pair = key_pair(seed).map_err(AuthError::new)?;
            answer.nkey = Some(pair.public_key());
            answer.signature = Some(sign(&pair, nonce)?);
        }
        Auth::Credentials(text) => {
            let (jwt, seed) = read_creds(text).map_err(AuthError::new)?;
            let pair = key_pair(&seed).map_err(AuthError::new)?;
            answer.jwt = Some(jwt);
            answer.signature = Some(sign(&pair, nonce)?);
        }
    }
    Ok(answer)
}

fn key_pair(seed: &str) -> Result<nkeys::KeyPair, String> {
    nkeys::KeyPair::from_seed(seed.trim()).map_err(|error| format!("the nkey seed is not valid: {error}"))
}

fn sign(pair: &nkeys::KeyPair, nonce: &[u8]) -> Result<Vec<u8>, AuthError> {
    pair.sign(nonce).map_err(|error| AuthError::new(format!("could not sign the server's nonce: {error}")))
}

/// The JWT and the seed of a credentials file.
fn read_creds(text: &str) -> Result<(String, String), String> {
    let missing = |what: &str| format!("the credentials have no {what} between its marked lines");
    let jwt = part(text, JWT_LINES).ok_or_else(|| missing("user JWT"))?;
    let seed = part(text, SEED_LINES).ok_or_else(|| missing("nkey seed"))?;
    Ok((jwt, seed))
}

/// What stands between two marked lines, white space taken out.
fn part(text: &str, (begin, end): (&str, &str)) -> Option<String> {
    let mut lines = text.lines().skip_while(|line| !line.contains(begin)).skip(1);
    let mut found = String::new();
    for line in lines.by_ref() {
        if line.contains(end) {
            return (!found.is_empty()).then_some(found);
        }
        found.push_str(line.trim());
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_credentials_file_are_found() {
        let text = "-----BEGIN NATS USER JWT-----\nabc\ndef\n------END NATS USER JWT------\n\n*** IMPORTANT ***\n\
                    -----BEGIN USER NKEY SEED-----\n SUXYZ \n------END USER NKEY SEED------\n";
        assert_eq!(part(text, JWT_LINES).as_deref(), Some("abcdef"));
        assert_eq!(part(text, SEED_LINES).as_deref(), Some("SUXYZ"));
        for cut in ["", "-----BEGIN NATS USER JWT-----\nabc", "-----BEGIN NATS USER JWT-----\n---END NATS USER JWT---"]
        {
            assert_eq!(part(cut, JWT_LINES), None, "{cut:?}");
        }
    }

    #[test]
    fn a_bad_seed_is_told_before_connecting_and_not_repeated() {
        for auth in [Auth::Nkey("SUnonsense".to_owned()), Auth::Credentials("SUnonsense".to_owned())] {
            let told = check(&auth);
            assert!(told.as_ref().is_err_and(|text| !text.contains("nonsense")), "{told:?}");
        }
    }
}
