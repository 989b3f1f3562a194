SELECT '{1,2}'::int[] @> ARRAY[[1]], j->>'a' FROM {{ ref('t') }} WHERE x LIKE '%{%' AND y ~ '{2}' AND z = '{}'; -- {# #}
