"""A page with fields → one number for each field.

A form describes a page: a reference picture, and where its fields are. Each step is a module:

    description.load_form: the TOML file and what it names, as one text
                           ↓
    reading.read_page:     alignment.Aligner → cut each field → numbers → checks.settle

`finding` proposes the fields of a new form, and `drawing` shows where they fall.
"""
