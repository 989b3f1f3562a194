x, row = 1, {"a": [1]}
print(f"{x=} {x = !r:>8} {{literal}} {row['a'][0]:>{x+4}}")
