//! Boots a copy of an image, prints what it says of itself, and shuts it down.

use std::path::Path;
use std::sync::Arc;

use lab::{BaseImage, Limits, PictureRequest, Unobserved, Vm, WorkArea};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let image = std::env::args().nth(1).ok_or("usage: boot IMAGE")?;
    let place = std::env::temp_dir().join("patchwright-lab");
    let (area, _) = WorkArea::open(&place)?;
    let image = BaseImage::open(Path::new(&image))?;
    let mut vm = Vm::new(&area, &image, &Limits::default(), Arc::new(Unobserved))?;
    println!("{:?}", vm.accelerator());
    match vm.boot() {
        Ok(booted) => println!("{booted:#?}"),
        Err(error) => return Err(format!("{error}\n{}", vm.serial_tail()).into()),
    }
    let picture = vm.picture(PictureRequest::default())?;
    println!("{}", serde_json::to_string(&picture)?);
    vm.power_off()?;
    Ok(())
}
