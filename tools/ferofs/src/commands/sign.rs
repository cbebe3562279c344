// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Signatures of images, beside them. Called by the commands that make images.

use ferofs::error::Error;
use ferofs::error::Result;
use ferofs::fsverity;
use ferofs::output::Output;
use ferofs::text::Shown;
use std::path::Path;
use std::path::PathBuf;

/// How an image is signed, if it is.
#[derive(clap::Args, Clone, Debug, Default)]
#[group(skip)]
pub struct Signing {
    /// Sign the image's fs-verity digest with this key (PEM), in IMAGE.p7s: `fsverity enable --signature=IMAGE.p7s IMAGE`
    /// has the kernel check it, and `ferofs mount --verity=signed` and mountd's policy take the image then
    #[arg(long, value_name = "KEY", requires = "cert")]
    pub(super) sign: Option<PathBuf>,
    /// The key's certificate (PEM)
    #[arg(long, value_name = "CERT", requires = "sign")]
    pub(super) cert: Option<PathBuf>,
}

impl Signing {
    /// Whether anything is to be signed.
    pub fn is_wanted(&self) -> bool {
        self.sign.is_some()
    }

    /// Fails if a signature would say nothing of some of the data.
    ///
    /// # Errors
    ///
    /// When one is wanted, and `answers` is not set.
    pub fn refuse_unless(&self, answers: bool, image: &Path) -> Result<()> {
        if self.is_wanted() && !answers {
            let image = Shown(image);
            return Err(Error::Request(format!(
                "{image}: --sign is for images that answer for all of their data, and this one has not the fs-verity \
                 digests of its tars: make it, or its layers, with --verity"
            )));
        }
        Ok(())
    }

    /// The signature of an image that is all written, if it is wanted. Both are to be finished together.
    ///
    /// # Errors
    ///
    /// When key or certificate are not right, there is no fsverity(1), or the signature cannot be written.
    pub fn of(&self, image: &Output) -> Result<Option<Output>> {
        let (Some(key), Some(certificate)) = (&self.sign, &self.cert) else {
            return Ok(None);
        };
        let mut target = image.target().as_os_str().to_owned();
        target.push(".p7s");
        let signature = Output::create(Path::new(&target), &[])?;
        let reader = image.reader()?;
        fsverity::sign(&reader, image.target(), key, certificate, signature.file())?;
        Ok(Some(signature))
    }
}
