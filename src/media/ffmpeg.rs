//! Opening a payload with FFmpeg: the part that sound and video share.
//!
//! In: bytes or a local file. Out: an open container. Invariant: FFmpeg reads nothing but the payload: no other file, no
//! URL, no playlist, whatever the payload asks for, and it writes nothing to standard error. This code may crash or hang
//! on hostile input, so the server calls it in a child process only (`sandbox`). Deliberately absent: encoding.

use std::fs::File;
use std::io::{self, Seek};
use std::sync::Once;

use ffmpeg_next::format::context::{Input, StreamIo};
use ffmpeg_next::{Dictionary, Rational};
use squilla_core::error::{Error, Kind, Result};

use crate::audio::native::open_file;
use crate::sandbox::job::Payload;

/// Containers that hold their media themselves. Playlists (hls, dash, concat, sdp) name other files and are not here.
const CONTAINERS: &str = "mov,mp4,matroska,webm,avi,mpeg,mpegts,mpegvideo,m4v,h264,hevc,ivf,obu,ogg,flv,asf,wav,w64,aiff,\
aac,mp3,ac3,eac3,dts,dtshd,truehd,mlp,flac,gif,apng,wv,tta,ape,mpc,mpc8,caf,au,amr,amrnb,amrwb,gsm,rm,nut,mxf,dv,voc,tak,\
dsf,shn,wtv,yuv4mpegpipe,sox,loas,bit,g729,spdif,xwma,swf,nsv,rso,xa,3dostr,oma";

static START: Once = Once::new();

/// Opens the container and reads what it says about its streams.
/// Fails with 22P03 when it is not a container that is known, or is damaged.
pub fn open(payload: &Payload<'_>) -> Result<Input> {
    START.call_once(|| {
        // Never fails with the features that are built in; a failure would show at the first open.
        let _ = ffmpeg_next::init();
        ffmpeg_next::util::log::set_level(ffmpeg_next::util::log::Level::Quiet);
    });
    let file = open_file(payload)?;
    if file.metadata().map(|meta| meta.len() == 0).unwrap_or(false) {
        return Err(Error::bad_media("the file is empty").detail("It has no bytes."));
    }
    let again = file.try_clone().ok();
    let stream = StreamIo::from_read_seek_with_capacity(file, 1 << 18).map_err(|e| failed("could not open the media", e))?;
    let mut options = Dictionary::new();
    options.set("format_whitelist", CONTAINERS);
    options.set("protocol_whitelist", "none");
    ffmpeg_next::format::input_from_stream(stream, None, Some(options)).map_err(|e| match again.map(unreadable) {
        Some(Some(error)) => Error::io("could not read the file", error),
        _ => failed("the file is not a sound or video file that can be read", e),
    })
}

/// Why the bytes of a file cannot be read, if so. FFmpeg tells of damage in some containers as it does of a broken disk.
fn unreadable(mut file: File) -> Option<io::Error> {
    file.rewind().and_then(|()| io::copy(&mut file, &mut io::sink())).err()
}

/// An FFmpeg failure as an error of the row.
pub fn failed(what: &str, error: ffmpeg_next::Error) -> Error {
    let kind = match error {
        ffmpeg_next::Error::Other { errno } if errno == ffmpeg_next::error::ENOMEM => Kind::LimitExceeded,
        _ => Kind::BadMedia,
    };
    let text = error.to_string();
    Error::new(kind, what).detail(format!("FFmpeg said: {}.", text.trim_end_matches('.')))
}

/// The container's common name: `mp4` rather than a list of relatives.
pub fn container_name(input: &Input) -> String {
    let format = input.format();
    let name = format.name();
    match name.split(',').next().unwrap_or(name) {
        "mov" => "mp4".to_owned(),
        first => first.to_owned(),
    }
}

/// Ticks as seconds, rounded once; 0 when the container gives no sensible time base.
pub fn seconds(ticks: i64, base: Rational) -> f64 {
    if base.denominator() > 0 && base.numerator() > 0 {
        (i128::from(ticks) * i128::from(base.numerator())) as f64 / f64::from(base.denominator())
    } else {
        0.0
    }
}

/// A timestamp or duration in ticks, when it is one: FFmpeg writes "none" as the smallest number.
pub fn ticks(value: i64) -> Option<i64> {
    (value != i64::MIN).then_some(value)
}

/// The length of the container in seconds, when it is known.
pub fn duration_s(input: &Input) -> Option<f64> {
    ticks(input.duration()).filter(|d| *d > 0).map(|d| d as f64 / 1e6)
}

/// The codec's name: `h264`, `aac`, ...
pub fn codec_name(id: ffmpeg_next::codec::Id) -> String {
    id.name().to_owned()
}
