//! How a session wants its values printed.
//!
//! In: the settings DateStyle, TimeZone, IntervalStyle, bytea_output, extra_float_digits, squilla.image_output as text.
//! Out: one value that encoders consult. Invariant: a style never changes under a running result.
//! Deliberately absent: the settings themselves and their checks.

use std::sync::Arc;

use squilla_core::error::Result;
use squilla_core::types::RegKind;
use squilla_core::values::ImageView;

use crate::encode::zone::Zone;

/// Turns pixels into a file of the format named (`png`, `jpeg`). Injected: this crate holds no codec.
pub type ImageEncoder = fn(ImageView<'_>, &str) -> Result<Vec<u8>>;

/// Finds the name that an oid prints as.
pub type RegNames = Arc<dyn Fn(RegKind, u32) -> Option<String> + Send + Sync>;

/// First half of DateStyle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DateFormat {
    /// 1997-12-17 07:37:16-08
    Iso,
    /// 12/17/1997 07:37:16.00 PST
    Sql,
    /// Wed Dec 17 07:37:16 1997 PST
    Postgres,
    /// 17.12.1997 07:37:16.00 PST
    German,
}

/// IntervalStyle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntervalStyle {
    /// 1 year 2 mons 3 days 04:05:06
    Postgres,
    /// @ 1 year 2 mons 3 days 4 hours 5 mins 6 secs
    PostgresVerbose,
    /// 1-2 3 4:05:06
    SqlStandard,
    /// P1Y2M3DT4H5M6S
    Iso8601,
}

/// squilla.image_output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageOutput {
    /// `<image 1920x1080 RGB>`
    Placeholder,
    /// The bytes of a PNG file, as bytea.
    Png,
    /// The bytes of a JPEG file, as bytea.
    Jpeg,
    /// `{"width": .., "height": .., "mode": .., "dtype": ..}`
    Jsonb,
}

/// Everything a text form depends on besides the value.
#[derive(Clone)]
pub struct Style {
    /// Where timestamptz values are shown.
    pub zone: Zone,
    /// Layout of dates.
    pub date_format: DateFormat,
    /// Whether the day comes before the month where the layout leaves it open.
    pub day_first: bool,
    /// Layout of intervals.
    pub interval_style: IntervalStyle,
    /// bytea as `\x..` (else escaped octets).
    pub bytea_hex: bool,
    /// 1 and above: shortest floats that read back.
    pub extra_float_digits: i32,
    /// What an image becomes.
    pub image_output: ImageOutput,
    /// Needed for [`ImageOutput::Png`] and [`ImageOutput::Jpeg`].
    pub image_encoder: Option<ImageEncoder>,
    /// Names of reg* values; without it they print as numbers.
    pub reg_names: Option<RegNames>,
}

impl Default for Style {
    fn default() -> Self {
        Self {
            zone: Zone::utc(),
            date_format: DateFormat::Iso,
            day_first: false,
            interval_style: IntervalStyle::Postgres,
            bytea_hex: true,
            extra_float_digits: 1,
            image_output: ImageOutput::Placeholder,
            image_encoder: None,
            reg_names: None,
        }
    }
}

impl Style {
    /// Takes over a DateStyle such as `ISO, MDY`. Words it does not know change nothing.
    pub fn set_date_style(&mut self, text: &str) {
        for word in text.split(',').map(|w| w.trim().to_ascii_lowercase()) {
            match word.as_str() {
                "iso" => self.date_format = DateFormat::Iso,
                "sql" => self.date_format = DateFormat::Sql,
                "postgres" => self.date_format = DateFormat::Postgres,
                "german" => (self.date_format, self.day_first) = (DateFormat::German, true),
                "dmy" | "euro" | "european" => self.day_first = true,
                "mdy" | "us" | "noneuro" | "noneuropean" | "ymd" => self.day_first = false,
                _ => {}
            }
        }
    }

    /// Takes over an IntervalStyle.
    pub fn set_interval_style(&mut self, text: &str) {
        self.interval_style = match text.to_ascii_lowercase().as_str() {
            "postgres_verbose" => IntervalStyle::PostgresVerbose,
            "sql_standard" => IntervalStyle::SqlStandard,
            "iso_8601" => IntervalStyle::Iso8601,
            _ => IntervalStyle::Postgres,
        };
    }

    /// Takes over a squilla.image_output.
    pub fn set_image_output(&mut self, text: &str) {
        self.image_output = match text.to_ascii_lowercase().as_str() {
            "png" => ImageOutput::Png,
            "jpeg" | "jpg" => ImageOutput::Jpeg,
            "jsonb" | "json" => ImageOutput::Jsonb,
            _ => ImageOutput::Placeholder,
        };
    }
}
