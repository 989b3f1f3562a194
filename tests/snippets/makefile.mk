%.o: %.c ; $(CC) -o $@ $< # {x}
V := $(shell awk '{print $$1}' f)$(if $(X),{,})
