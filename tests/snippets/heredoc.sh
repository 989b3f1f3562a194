cat <<'EOF' > f
{{ keep }} ${keep} {% keep %} {# keep #} `keep` $(keep)
EOF
