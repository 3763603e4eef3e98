update chunks set weight = 1 where user_id = $1 and (user_id, document_id, number) in (
    select user_id, document_id, number from chunks where user_id = $1 and weight is null limit 500)
