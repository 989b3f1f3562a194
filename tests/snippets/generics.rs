fn f<T: Into<Vec<u8>>>(x: T) -> impl Fn() { move || { println!("{:?} {{}} {x:#?}", [[0; 3]; 2]); } }
#![allow(unused)]
