"""The form of what a JSON file holds, checked before it is used: it may be damaged, forged or another's."""


def has_form(value, form) -> bool:
    """Whether `value` has a form, one of

    a type, or a union of some     an instance of it (True and False are no int)
    [form]                         a list of values of this form
    (form, form, ...)              a list of as many values, each of its own form
    {str: form}                    a dict with values of this form
    {"name": form, ...}            a dict that has these names, with values of their forms
    """
    if isinstance(form, list):
        return isinstance(value, list) and all(has_form(one, form[0]) for one in value)
    if isinstance(form, tuple):
        return isinstance(value, list) and len(value) == len(form) and all(map(has_form, value, form))
    if isinstance(form, dict):
        if not isinstance(value, dict):
            return False
        if str in form:
            return all(has_form(one, form[str]) for one in value.values())
        return all(name in value and has_form(value[name], of_name) for name, of_name in form.items())
    return isinstance(value, form) and (type(value) is not bool or bool is form)
