lm(y ~ x, d) |> (\(m) {m})(); f <- function(...) { ~ .x }; d[["a"]][[1]]; "{x}" %in% {{ y }}
