Template("$$5 ${name} $name ${{x}}").safe_substitute(name="n")
