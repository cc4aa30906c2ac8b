//! `SMTP_CHECK`: the greeting, HELO and QUIT (RFC 5321 section 4.3).

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

use super::Target;

/// Longest conversation.
const MAX_BYTES: u64 = 64 * 1024;

pub(super) async fn ask(helo: &str, target: &Target) -> Result<(), String> {
    let stream = target.connect().await?;
    let (reader, mut writer) = stream.into_split();
    let mut lines = BufReader::new(reader.take(MAX_BYTES)).lines();
    for (say, wanted) in
        [(None, "220"), (Some(format!("HELO {helo}\r\n")), "250"), (Some("QUIT\r\n".to_owned()), "221")]
    {
        if let Some(line) = say {
            writer.write_all(line.as_bytes()).await.map_err(|error| error.to_string())?;
        }
        // Lines before the last have a hyphen behind the code.
        let last = loop {
            let line = lines.next_line().await.map_err(|error| error.to_string())?;
            let line = line.ok_or("closed in the middle of the conversation")?;
            if line.as_bytes().get(3) != Some(&b'-') {
                break line;
            }
        };
        if !last.starts_with(wanted) {
            let code: String = last.chars().take(3).filter(|letter| !letter.is_control()).collect();
            return Err(format!("{}: SMTP answer {code} instead of {wanted}", target.address));
        }
    }
    Ok(())
}
