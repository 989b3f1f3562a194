x := map[string][]int{"a": {1}, "b": {}}; fmt.Printf("%v %%{%+v}", struct{}{}, x) // {{.}} {{- /* */ -}}
